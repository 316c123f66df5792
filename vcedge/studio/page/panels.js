// The objects, the buttons, the sheets: what is on the page besides the picture and time.

import { isDrawn, model, object, ranges, scoreOf } from "./model.js";
import { isLoading } from "./viewing.js";

export const byId = (id) => document.getElementById(id);

const rows = new Map();
let lastChosen = null;

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function make(tag, facts = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(facts)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function setIcon(button, name) {
  const use = button.querySelector("use");
  if (use.getAttribute("href") !== `#i-${name}`) use.setAttribute("href", `#i-${name}`);
}

// Objects

function makeRow(id, act) {
  const name = make("input", { maxLength: 40, spellcheck: false, autocomplete: "off", "aria-label": "Name" });
  name.addEventListener("change", () => act.rename(id, name.value.trim()));
  name.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" || event.key === "Escape") name.blur();
  });
  const button = (kind, picture, title, onclick) => {
    const made = make("button", { className: kind, title, "aria-label": title }, icon(picture));
    made.addEventListener("click", (event) => { event.stopPropagation(); onclick(); });
    return made;
  };
  const eye = button("eye", "eye", "Show or hide", () => act.show(id));
  const acts = make("span", { className: "acts" }, eye,
    button("absent", "absent", "It is not in this frame (X)", () => act.clear(id)),
    button("remove", "bin", "Remove it from the whole video (Del)", () => act.remove(id)));
  const meter = make("i");
  const number = make("b");
  const score = make("div", { className: "score" }, make("div", { className: "meter" }, meter), number);
  const row = make("li", { className: "object" }, make("span", { className: "swatch" }), name, acts, score);
  row.addEventListener("click", () => act.choose(id));
  row.addEventListener("focusin", () => act.choose(id));
  return { row, name, eye, number };
}

export function showObjects(act) {
  const list = byId("objects");
  for (const [id, { row }] of rows) {
    if (!object(id)) { row.remove(); rows.delete(id); }
  }
  for (const { id, name, line } of model.objects) {
    if (!rows.has(id)) rows.set(id, makeRow(id, act));
    const made = rows.get(id);
    if (made.row.parentNode !== list || list.children[model.objects.findIndex((o) => o.id === id)] !== made.row) {
      list.append(made.row);
    }
    if (document.activeElement !== made.name) made.name.value = name;
    made.row.dataset.id = id;
    made.row.classList.toggle("chosen", id === model.chosen);
    made.row.classList.toggle("off", model.off.has(id));
    made.row.style.setProperty("--own", line);
    setIcon(made.eye, model.off.has(id) ? "hidden" : "eye");
    const score = scoreOf(id);
    made.row.style.setProperty("--share", `${100 * (score ?? 0)}%`);
    made.number.textContent = score === null ? "no mask" : score === 0 ? "not seen"
      : isDrawn() && score === 1 ? "drawn" : score.toFixed(2);
  }
  byId("empty").hidden = model.objects.length > 0;
  if (model.chosen !== lastChosen) {
    lastChosen = model.chosen;
    rows.get(lastChosen)?.row.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

// Buttons and words

export function showTransport(moving, ms) {
  const { video, work } = model;
  const [first, last] = ranges();
  const tracking = work?.kind === "track";
  const track = byId("track");
  track.classList.toggle("stop", tracking);
  setIcon(track, tracking ? "stop" : "track");
  track.lastElementChild.textContent = tracking ? "Stop" : "Track";
  track.title = tracking ? "Stop (Space)" : video.live ? "Track the newest frames (T)" : "Track to the end (T)";
  track.disabled = !tracking && !model.objects.length;
  for (const id of ["step", "track-back"]) byId(id).disabled = Boolean(work) || !model.objects.length;
  byId("track-back").hidden = video.live;
  setIcon(byId("play"), moving ? "pause" : "play");
  byId("play").title = video.live ? "Watch the camera (Space)" : moving ? "Pause (Space)" : "Play (Space)";
  byId("first").disabled = byId("back").disabled = model.frame <= first;
  byId("last").disabled = byId("next").disabled = model.frame >= last;
  byId("undo").disabled = !model.undo;
  byId("redo").disabled = !model.redo;
  const where = byId("where");
  const time = video.fps && !video.live ? ` · ${clock(model.frame / video.fps)}` : "";
  where.replaceChildren(make("b", {}, String(model.frame)), ` of ${last}`, make("i", {}, time));
  byId("speed").textContent = tracking && ms ? `${(1000 / ms).toFixed(1)} frames/s` : "";
  byId("busy").hidden = !isLoading() && !model.asking;
}

export function showTools() {
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.setAttribute("aria-checked", String(button.dataset.tool === model.tool));
  }
  for (const button of document.querySelectorAll("[data-sign]")) {
    button.setAttribute("aria-pressed", String(button.dataset.sign === model.sign));
  }
  byId("sign").hidden = model.tool !== "click";
  byId("brush").hidden = model.tool !== "brush" && model.tool !== "erase";
  byId("brush-size").value = String(model.brush);
  byId("masks").setAttribute("aria-pressed", String(!model.masksShown));
  setIcon(byId("masks"), model.masksShown ? "eye" : "hidden");
}

export function showHint(playing) {
  byId("hint").textContent = playing ? "" : hint();
}

function hint() {
  const { objects, drawn, work, tool, video } = model;
  const touch = matchMedia("(pointer: coarse)").matches;
  const key = (word, letter) => (touch ? word : `${word} (${letter})`);
  const seen = objects.some((each) => scoreOf(each.id) !== null);
  if (work?.kind === "track") return "";
  if (work?.kind === "watch") return objects.length ? "" : "Drag a box around what you want to follow";
  if (!drawn.length) {
    return { box: "Drag a box around what you want to follow", click: "Click on what you want to follow",
      brush: "Paint what you want to follow" }[tool] ?? "";
  }
  const chosen = object(model.chosen);
  if (chosen && scoreOf(chosen.id) === null && !seen) {
    return drawn.length && model.frame !== drawn[0] ? `${key("Track", "T")} goes on from the last frame that has a mask` : `Draw ${chosen.name}`;
  }
  if (chosen && scoreOf(chosen.id) === null) return `Draw ${chosen.name}: a box around it, or a click on it`;
  if (isDrawn() && drawn.length === 1 && !tracked()) {
    return `Not quite? ${key("Click", "C")} or ${key("paint", "P")}. Then ${key("track", "T")}${video.live ? "" : " to the end"}`;
  }
  if (isDrawn() && drawn.length > 1) return `${key("Track", "T")} goes on from this correction`;
  return "";
}

function tracked() {
  const [first, last] = ranges();
  for (let frame = first; frame <= Math.min(last, first + 5000); frame++) {
    if (!model.drawn.includes(frame) && model.objects.some((each) => scoreOf(each.id, frame) !== null)) return true;
  }
  return false;
}

function clock(seconds) {
  const minutes = Math.floor(seconds / 60);
  return `${minutes}:${(seconds - 60 * minutes).toFixed(2).padStart(5, "0")}`;
}

export function toast(text) {
  const note = make("div", { className: "toast" }, text);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), Math.min(9000, 2500 + 60 * text.length));
}

// Export

let masked = 0;

export function showKinds(startExport) {
  byId("kinds").replaceChildren(...model.exports.map(({ kind, title, about }) => {
    const button = make("button", { "data-kind": kind }, icon("export"), "Download");
    button.addEventListener("click", () => startExport(kind));
    return make("div", { className: "kind" }, make("b", {}, title), button, make("p", {}, about));
  }));
  masked = countMasks();
  byId("export-about").textContent = masked === 1 ? "1 frame has a mask." : `${masked} frames have masks.`;
}

export function showExport(done, total) {
  const running = model.work?.kind === "export";
  byId("export-progress").hidden = !running;
  byId("export-bar").style.setProperty("--share", `${total ? 100 * done / total : 0}%`);
  for (const button of byId("kinds").querySelectorAll("button")) button.disabled = running || !masked;
}

function countMasks() {
  const [first, last] = ranges();
  let count = 0;
  for (let frame = first; frame <= last; frame++) {
    count += model.objects.some((each) => scoreOf(each.id, frame) !== null);
  }
  return count;
}

export function download(kind) {
  const link = make("a", { href: `files/${kind}`, download: "" });
  document.body.append(link);
  link.click();
  link.remove();
}
