// Time: a lane for each object, as strong as its score; what was drawn; where we are.

import { LEAST, laneOf, model, MOST, ranges, UNKNOWN, UNSEEN } from "./model.js";

const RULER = 20, LANE = 13, GAP = 4, EDGE = 9, MOST_LANES = 6;

export class Timeline {
  constructor(canvas, goTo, colourOf) {
    Object.assign(this, { canvas, goTo, colourOf });
    this.context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas);
    const scrub = (event) => goTo(this.frameAt(event.offsetX));
    // Who clicks wants no ring around it; who comes by Tab does.
    canvas.addEventListener("mousedown", (event) => {
      event.preventDefault();
      document.activeElement?.blur();
    });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      scrub(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) scrub(event); });
  }

  gutter() { return this.canvas.clientWidth > 640 && model.objects.length ? 96 : 0; }

  // The middle of a frame, from the left.
  xOf(frame) {
    const [first, last] = ranges();
    const left = this.gutter() + EDGE;
    return left + (frame - first + 0.5) / (last - first + 1) * (this.canvas.clientWidth - left - EDGE);
  }

  frameAt(x) {
    const [first, last] = ranges();
    const left = this.gutter() + EDGE;
    const share = (x - left) / (this.canvas.clientWidth - left - EDGE);
    return Math.floor(first + share * (last - first + 1));
  }

  draw() {
    if (!model.video) return;
    const { canvas, context } = this;
    const chosen = model.objects.findIndex((each) => each.id === model.chosen);
    const from = Math.max(0, Math.min(chosen - MOST_LANES + 2, model.objects.length - MOST_LANES));
    const lanes = model.objects.slice(from, from + MOST_LANES);
    canvas.style.height = `${RULER + Math.max(1, lanes.length) * (LANE + GAP) + 4}px`;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawRuler();
    lanes.forEach((each, row) => this.drawLane(each, RULER + row * (LANE + GAP)));
    if (!lanes.length) this.drawTrack(RULER);
    this.drawMarks();
    this.drawHead();
    const [first, last] = ranges();
    const facts = { "aria-valuemin": first, "aria-valuemax": last, "aria-valuenow": model.frame };
    for (const [name, value] of Object.entries(facts)) canvas.setAttribute(name, value);
  }

  drawRuler() {
    const { context } = this;
    const [first, last] = ranges();
    const room = this.canvas.clientWidth - this.gutter();
    const step = niceStep((last - first + 1) / Math.max(2, room / 90));
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = this.colourOf("--muted");
    context.textAlign = "center";
    for (let frame = Math.ceil(first / step) * step; frame <= last; frame += step) {
      const x = this.xOf(frame);
      context.fillText(String(frame), Math.max(this.gutter() + EDGE + 4, x), 11);
    }
    context.textAlign = "start";
  }

  drawTrack(top) {
    const { context } = this;
    const left = this.gutter() + EDGE;
    context.fillStyle = this.colourOf("--well");
    context.beginPath();
    context.roundRect(left, top, this.canvas.clientWidth - left - EDGE, LANE, 4);
    context.fill();
  }

  drawLane({ id, name, line }, top) {
    const { context } = this;
    this.drawTrack(top);
    if (this.gutter()) {
      context.fillStyle = this.colourOf(id === model.chosen ? "--text" : "--muted");
      context.font = `${id === model.chosen ? 600 : 400} 12px system-ui, sans-serif`;
      context.fillText(shorten(context, name, this.gutter() - 6), 2, top + LANE - 3);
    }
    const lane = laneOf(id);
    const [first, last] = ranges();
    const begin = this.gutter() + EDGE, end = this.canvas.clientWidth - EDGE;
    context.save();
    context.beginPath();
    context.roundRect(begin, top, end - begin, LANE, 4);
    context.clip();
    const width = (end - begin) / (last - first + 1);
    const columns = Math.min(last - first + 1, Math.ceil(end - begin));
    for (let column = 0; column < columns; column++) {
      // Of frames that share a column, the worst is shown.
      const from = first + Math.floor(column * (last - first + 1) / columns);
      const to = first + Math.max(1, Math.floor((column + 1) * (last - first + 1) / columns));
      let worst = 255;
      for (let frame = from; frame < Math.max(from + 1, to); frame++) {
        if (lane[frame] !== UNKNOWN) worst = Math.min(worst, lane[frame]);
      }
      if (worst === 255) continue;
      // Whole pixels, so that no seam shows between two frames.
      const x = Math.round(begin + (from - first) * width);
      const across = Math.max(1, Math.round(begin + (Math.max(from + 1, to) - first) * width) - x);
      if (worst === UNSEEN) {
        context.fillStyle = this.colourOf("--faint");
        context.fillRect(x, top + LANE / 2 - 1, across, 2);
      } else {
        const score = (worst - LEAST) / (MOST - LEAST);
        context.globalAlpha = Math.max(0.16, Math.min(1, (score - 0.45) / 0.5));
        context.fillStyle = line;
        context.fillRect(x, top, across, LANE);
        context.globalAlpha = 1;
      }
    }
    context.restore();
  }

  // Diamonds where the user drew.
  drawMarks() {
    const { context } = this;
    const [first, last] = ranges();
    context.fillStyle = this.colourOf("--text");
    for (const frame of model.drawn) {
      if (frame < first || frame > last) continue;
      const x = this.xOf(frame), y = RULER - 4;
      context.beginPath();
      context.moveTo(x, y - 4.5);
      context.lineTo(x + 4, y);
      context.lineTo(x, y + 4.5);
      context.lineTo(x - 4, y);
      context.fill();
    }
  }

  drawHead() {
    const { context } = this;
    const x = this.xOf(model.frame);
    context.fillStyle = this.colourOf("--accent");
    context.fillRect(x - 1, 5, 2, this.canvas.clientHeight - 6);
    context.beginPath();
    context.roundRect(x - 5, 1, 10, 9, 3);
    context.fill();
  }
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least) ?? 1;
}

function shorten(context, text, width) {
  let short = text;
  while (short.length > 1 && context.measureText(short).width > width) short = short.slice(0, -1);
  return short === text ? text : `${short.slice(0, -1)}…`;
}
