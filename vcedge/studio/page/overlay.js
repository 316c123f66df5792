// A mask as a picture: objects tinted and outlined, and where the highest point of each is.

const picture = document.createElement("canvas");
const context = picture.getContext("2d");
const TINT = 96, SOLID = 255, HALO = 120; // opacity, of 255

function rgba(colour, alpha) {
  const value = parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

// `objects` are those to be shown. Gives the picture, and by id [left, right, top] of the highest run.
export function drawOverlay(ids, width, height, objects) {
  picture.width = width;
  picture.height = height;
  const tops = new Map();
  if (!ids.length || !objects.length) return { picture, tops };
  const tints = new Uint32Array(256), lines = new Uint32Array(256), visible = new Uint8Array(256);
  for (const { id, line } of objects) {
    tints[id] = rgba(line, TINT);
    lines[id] = rgba(line, SOLID);
    visible[id] = id;
  }
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const halo = rgba("#000000", HALO);
  const thick = Math.max(1, Math.round(Math.min(width, height) / 260));
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const own = visible[ids[at]];
      const left = x >= thick ? visible[ids[at - thick]] : own;
      const right = x < width - thick ? visible[ids[at + thick]] : own;
      const up = y >= thick ? visible[ids[at - thick * width]] : own;
      const down = y < height - thick ? visible[ids[at + thick * width]] : own;
      const inside = left === own && right === own && up === own && down === own;
      if (own) {
        pixels[at] = inside ? tints[own] : lines[own];
        const top = tops.get(own);
        if (!top) tops.set(own, [x, x, y]);
        else if (y === top[2] && x === top[1] + 1) top[1] = x;
      } else if (!inside) {
        pixels[at] = halo;
      }
    }
  }
  context.putImageData(image, 0, 0);
  return { picture, tops };
}
