// The picture, what is drawn on it, and the hand that draws.

import { changed, isDrawn, model, object, scoreOf } from "./model.js";
import { drawOverlay } from "./overlay.js";
import { shown } from "./viewing.js";

const MOST_ZOOM = 16, TAP = 5, MARGIN = 14;

export class Stage {
  // `act` is told what was drawn: box(box), click(at, positive), stroke(points, radius, erase).
  constructor(canvas, act) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.act = act;
    this.zoom = 1;
    this.pan = [0, 0];
    this.overlay = null;
    this.key = "";
    this.pointers = new Map();
    this.trail = null; // the last stroke, until the mask that holds it is shown
    this.gesture = null; // what the hand is at: { kind, from, to, points, button }
    this.cursor = null;
    this.space = false;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.release(event));
    canvas.addEventListener("pointercancel", (event) => this.cancel(event));
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.draw(); });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  // Where the picture stands, in the canvas's own pixels, and how large a pixel of the frame is.
  place() {
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = model.video;
    const room = Math.min(clientWidth, clientHeight) > 320 ? MARGIN : 0;
    const fit = Math.min((clientWidth - 2 * room) / width, (clientHeight - 2 * room) / height);
    const scale = Math.max(0.01, fit) * this.zoom;
    const left = (clientWidth - width * scale) / 2 + this.pan[0];
    const top = (clientHeight - height * scale) / 2 + this.pan[1];
    return { left, top, scale };
  }

  fit() { this.zoom = 1; this.pan = [0, 0]; this.draw(); }

  zoomBy(factor, at = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]) {
    const before = this.toFrame(at);
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    if (this.zoom === 1) { this.fit(); return; }
    const { left, top, scale } = this.place();
    this.pan[0] += at[0] - (left + before[0] * scale);
    this.pan[1] += at[1] - (top + before[1] * scale);
    this.draw();
  }

  toFrame([x, y]) {
    const { left, top, scale } = this.place();
    return [(x - left) / scale, (y - top) / scale];
  }

  // Drawing

  draw() {
    if (!model.video) return;
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    const size = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!shown.image) return;
    const { left, top, scale } = this.place();
    const { width, height } = model.video;
    context.imageSmoothingEnabled = scale < 4;
    context.imageSmoothingQuality = "high";
    context.drawImage(shown.image, left, top, width * scale, height * scale);
    canvas.dataset.frame = shown.frame;
    if (model.masksShown) this.drawMasks(left, top, scale);
    this.drawPrompts();
    this.drawGesture(scale);
  }

  drawMasks(left, top, scale) {
    const { width, height, viewWidth, viewHeight } = model.video;
    const visible = model.objects.filter((each) => !model.off.has(each.id));
    const key = `${shown.serial} ${visible.map((each) => each.id)}`;
    if (key !== this.key) {
      this.key = key;
      this.overlay = drawOverlay(shown.ids, viewWidth, viewHeight, visible);
    }
    this.context.drawImage(this.overlay.picture, left, top, width * scale, height * scale);
    if (shown.frame !== model.frame) return;
    const step = width / viewWidth * scale;
    for (const [id, [from, to, y]] of this.overlay.tops) {
      const at = [left + (from + to + 1) / 2 * step, top + y * step - 5];
      this.drawTag(at, object(id));
    }
  }

  drawTag([x, y], { id, name, line }) {
    const { context, canvas } = this;
    const score = scoreOf(id);
    const text = isDrawn() && score === 1 ? name : `${name}  ${score?.toFixed(2) ?? ""}`;
    context.font = "600 12px system-ui, sans-serif";
    const width = context.measureText(text).width + 16;
    const left = Math.min(Math.max(4, x - width / 2), canvas.clientWidth - width - 4);
    const top = Math.min(Math.max(4, y - 20), canvas.clientHeight - 24);
    context.fillStyle = "rgb(10 12 16 / 82%)";
    context.beginPath();
    context.roundRect(left, top, width, 20, 10);
    context.fill();
    context.fillStyle = line;
    context.fillText(text, left + 8, top + 14);
  }

  drawPrompts() {
    const prompts = model.prompts;
    if (!prompts || prompts.frame !== shown.frame) return;
    if (prompts.box) this.drawBox(prompts.box, [3, 4], 0.55);
    for (const [x, y, positive] of prompts.clicks) {
      this.drawDot(this.toCanvas([x + 0.5, y + 0.5]), positive);
    }
  }

  drawGesture(scale) {
    const { context, gesture } = this;
    const own = object(model.chosen)?.line ?? "#7fffd4";
    const brush = model.tool === "brush" || model.tool === "erase";
    if (gesture?.kind === "box" && gesture.dragged) this.drawBox(boxOf(gesture), [6, 4], 1);
    if (gesture?.kind === "stroke") this.drawStroke(gesture, this.radius(), own, scale);
    if (this.trail?.serial === shown.serial) {
      this.drawStroke(this.trail, this.trail.radius, this.trail.own, scale);
    }
    if (brush && this.cursor && !this.space) {
      context.lineWidth = 1.5;
      for (const [colour, more] of [["rgb(0 0 0 / 70%)", 1], ["#fff", 0]]) {
        context.strokeStyle = colour;
        context.beginPath();
        context.arc(...this.cursor, this.radius() * scale + more, 0, 7);
        context.stroke();
      }
    }
  }

  drawStroke({ points, erase }, radius, own, scale) {
    const { context } = this;
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 2 * radius * scale;
    context.strokeStyle = erase ? "rgb(10 12 16 / 55%)" : `${own}99`;
    context.beginPath();
    for (const [x, y] of points) context.lineTo(...this.toCanvas([x + 0.5, y + 0.5]));
    const [x, y] = points[0];
    if (points.length === 1) context.lineTo(...this.toCanvas([x + 0.51, y + 0.5]));
    context.stroke();
  }

  drawBox([x, y, width, height], dash, alpha) {
    const { context } = this;
    const { left, top, scale } = this.place();
    const rect = [left + x * scale, top + y * scale, width * scale, height * scale];
    context.globalAlpha = alpha;
    context.lineWidth = 1.5;
    context.strokeStyle = "rgb(0 0 0 / 75%)";
    context.strokeRect(...rect);
    context.setLineDash(dash);
    context.strokeStyle = "#fff";
    context.strokeRect(...rect);
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  drawDot([x, y], positive) {
    const { context } = this;
    context.beginPath();
    context.arc(x, y, 7, 0, 7);
    context.fillStyle = positive ? "#18a957" : "#e0443a";
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = "#fff";
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.5, y);
    context.lineTo(x + 3.5, y);
    if (positive) { context.moveTo(x, y - 3.5); context.lineTo(x, y + 3.5); }
    context.stroke();
  }

  toCanvas([x, y]) {
    const { left, top, scale } = this.place();
    return [left + x * scale, top + y * scale];
  }

  // The brush's size is of the screen, as it is seen: who zooms in, draws finer.
  radius() { return Math.max(0.5, model.brush / 2 / this.place().scale); }

  // The hand

  press(event) {
    if (!model.video || event.button > 2) return;
    this.canvas.setPointerCapture(event.pointerId);
    const at = [event.offsetX, event.offsetY];
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2) {
      this.gesture = { kind: "pinch", ...this.pinch() };
    } else if (this.pointers.size === 1) {
      this.gesture = this.begin(at, event);
    }
    this.cursor = event.pointerType === "mouse" ? at : null;
    this.draw();
  }

  begin(at, event) {
    const pans = this.space || event.button === 1 || model.tool === "hand";
    if (pans) return { kind: "pan", from: at, pan: [...this.pan] };
    const from = this.toFrame(at);
    const minus = event.button === 2 || event.altKey || model.sign === "minus";
    if (model.tool === "click") return { kind: "click", start: at, from, minus };
    if (event.button === 2) return null;
    if (model.tool === "box") return { kind: "box", start: at, from, to: from, dragged: false };
    return { kind: "stroke", erase: model.tool === "erase", points: [centre(from)] };
  }

  move(event) {
    const at = [event.offsetX, event.offsetY];
    this.cursor = event.pointerType === "mouse" ? at : null;
    const { gesture } = this;
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    if (gesture?.kind === "pan") {
      this.pan = [0, 1].map((axis) => gesture.pan[axis] + at[axis] - gesture.from[axis]);
    } else if (gesture?.kind === "pinch" && this.pointers.size === 2) {
      const { middle, spread } = this.pinch();
      this.pan = [0, 1].map((axis) => this.pan[axis] + middle[axis] - gesture.middle[axis]);
      this.zoomBy(spread / gesture.spread, middle);
      Object.assign(gesture, { middle, spread });
    } else if (gesture?.kind === "box") {
      gesture.to = this.toFrame(at);
      gesture.dragged ||= distance(at, gesture.start) > TAP;
    } else if (gesture?.kind === "stroke") {
      const coalesced = event.getCoalescedEvents?.() ?? [];
      for (const each of coalesced.length ? coalesced : [event]) {
        gesture.points.push(centre(this.toFrame([each.offsetX, each.offsetY])));
      }
    }
    this.draw();
  }

  release(event) {
    const { gesture } = this;
    this.pointers.delete(event.pointerId);
    if (this.pointers.size) return;
    this.gesture = null;
    if (gesture?.kind === "click") this.act.click(centre(gesture.from), !gesture.minus);
    if (gesture?.kind === "box" && gesture.dragged) this.act.box(boxOf(gesture));
    // A tap with the box means what a click means.
    if (gesture?.kind === "box" && !gesture.dragged) this.act.tap(centre(gesture.from));
    if (gesture?.kind === "stroke") {
      const own = object(model.chosen)?.line ?? "#7fffd4";
      this.trail = { ...gesture, radius: this.radius(), own, serial: shown.serial };
      this.act.stroke(gesture.points, this.radius(), gesture.erase);
    }
    changed();
  }

  cancel(event) {
    this.pointers.delete(event?.pointerId);
    if (!event) this.pointers.clear();
    this.gesture = null;
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), [event.offsetX, event.offsetY]);
  }

  pinch() {
    const [a, b] = this.pointers.values();
    return { middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], spread: Math.max(1, distance(a, b)) };
  }

  showCursor() {
    const pan = this.space || model.tool === "hand";
    const brush = model.tool === "brush" || model.tool === "erase";
    this.canvas.style.cursor = pan ? (this.gesture ? "grabbing" : "grab") : brush ? "none" : "crosshair";
  }
}

function centre([x, y]) { return [x - 0.5, y - 0.5]; }

function distance(a, b) { return Math.hypot(a[0] - b[0], a[1] - b[1]); }

// Left, top, width, height within the frame.
function boxOf({ from, to }) {
  const { width, height } = model.video;
  const xs = [from[0], to[0]].map((x) => Math.min(width, Math.max(0, x))).sort((a, b) => a - b);
  const ys = [from[1], to[1]].map((y) => Math.min(height, Math.max(0, y))).sort((a, b) => a - b);
  return [xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0]];
}
