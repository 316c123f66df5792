// A mask as a picture: objects tinted and outlined, and the box that holds each.

const picture = document.createElement("canvas");
const context = picture.getContext("2d");
const TINT = 96, SOLID = 255, HALO = 120; // opacity, of 255

function rgba(colour, alpha) {
  const value = parseInt(colour.slice(1), 16);
  return ((alpha << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}

// `objects` are those to be shown. Gives the picture, and the boxes [left, top, right, bottom] by id.
export function drawOverlay(ids, width, height, objects) {
  picture.width = width;
  picture.height = height;
  const boxes = new Map();
  if (!ids.length || !objects.length) return { picture, boxes };
  const tints = new Uint32Array(256), lines = new Uint32Array(256), visible = new Uint8Array(256);
  for (const { id, line } of objects) {
    tints[id] = rgba(line, TINT);
    lines[id] = rgba(line, SOLID);
    visible[id] = id;
    boxes.set(id, [width, height, -1, -1]);
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
        const box = boxes.get(own);
        if (x < box[0]) box[0] = x;
        if (y < box[1]) box[1] = y;
        if (x > box[2]) box[2] = x;
        if (y > box[3]) box[3] = y;
      } else if (!inside) {
        pixels[at] = halo;
      }
    }
  }
  context.putImageData(image, 0, 0);
  for (const [id, box] of boxes) if (box[2] < 0) boxes.delete(id);
  return { picture, boxes };
}
