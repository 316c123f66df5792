// The page: it asks the studio, shows what it tells, and leads the hand and the keys to both.

import { fillSheet, keyTable, listenToKeys } from "./keys.js";
import { changed, model, object, onChange, ranges, takeFrame, takeObjects, takeState } from "./model.js";
import { byId, download, showExport, showHint, showKinds, showObjects, showTools, showTransport, toast } from "./panels.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";
import { ahead, goTo, refresh, refreshAll, shown, tellErrors } from "./viewing.js";
import { ask, askState, listen, sendMask, startExport } from "./wire.js";

const AHEAD = 6;
let playing = null;
let follow = true; // whether the page goes along with the tracker
let stepMs = 0;
let wantsFile = null;

const complain = (error) => toast(error.message);
tellErrors(complain);

// Asking

let waiting = Promise.resolve();

// A change comes twice, as an answer and as an event; the first one counts.
let lastChange = -1;
function takeChange(told) {
  if (told.serial <= lastChange) return;
  lastChange = told.serial;
  const before = new Set(model.objects.map((each) => each.id));
  const used = new Set(model.lanes.keys());
  takeObjects(told);
  if (told.changed) takeFrame(told.changed);
  // An object that is gone, or is back, is so in every mask; one of an id that was used may be another.
  const back = model.objects.filter((each) => !before.has(each.id));
  if (back.some((each) => used.has(each.id))) load();
  else if (back.length || before.size !== model.objects.length) refreshAll();
  else if (told.changed) refresh(told.changed.frame);
}

// One request after the other, in the order of the hand.
function send(action, given) {
  const sent = waiting.then(async () => {
    model.asking = true;
    changed();
    try {
      const told = await ask(action, given);
      takeChange(told);
      return told;
    } catch (error) {
      complain(error);
      return null;
    } finally {
      model.asking = false;
      changed();
    }
  });
  waiting = sent;
  return sent;
}

// What was drawn goes to the object that was chosen when the hand was there, or to the one that is
// added for it: who draws twice before the answer comes draws one object.
let adding = null;
async function chosenOne() {
  if (model.chosen !== null) return model.chosen;
  adding ??= send("add").then((told) => { adding = null; return told?.objects.at(-1).id ?? null; });
  return adding;
}

// Gives the frame and the object that were drawn, or null.
async function draw(action, given) {
  stopPlaying();
  const frame = shown.frame;
  if (frame < 0) return null;
  // A camera goes on meanwhile, and the page stays where the hand was.
  follow = false;
  goTo(frame);
  const object = await chosenOne();
  if (object === null) return null;
  return await send(action, { frame, object, ...given }) && { frame, object };
}

const hand = {
  async box(box) {
    if (box[2] < 1 || box[3] < 1) return;
    keepPrompts(await draw("box", { box }), ({ clicks }) => ({ box, clicks }));
  },
  async click(at, positive) {
    const drawn = await draw("click", { at, positive });
    keepPrompts(drawn, ({ box, clicks }) => ({ box, clicks: [...clicks, [...at, positive]] }));
  },
  tap(at) {
    const { viewWidth, viewHeight, width } = model.video;
    const [x, y] = at.map((each) => Math.round(each * viewWidth / width));
    const inside = x >= 0 && y >= 0 && x < viewWidth && y < viewHeight;
    const id = inside ? shown.ids?.[y * viewWidth + x] : 0;
    if (object(id)) choose(id);
  },
  async stroke(points, radius, erase) {
    if (!await draw("stroke", { points: thin(points), radius, erase })) stage.trail = null;
    forgetPrompts();
  },
};

// `drawn` is the frame and the object; what is known of them goes on, whatever is shown meanwhile.
function keepPrompts(drawn, addTo) {
  if (!drawn) return;
  const { prompts } = model;
  const same = prompts?.frame === drawn.frame && prompts.object === drawn.object;
  model.prompts = { ...drawn, ...addTo(same ? prompts : { box: null, clicks: [] }) };
  changed();
}
function forgetPrompts() { model.prompts = null; changed(); }

// Points that lie closer than a quarter pixel say nothing.
function thin(points) {
  const kept = points.filter(([x, y], at) => !at || Math.hypot(x - points[at - 1][0], y - points[at - 1][1]) > 0.25);
  return kept.slice(0, 20_000);
}

// Deeds

function choose(id) {
  if (model.chosen === id) return;
  model.chosen = id;
  changed();
}

function stopPlaying() {
  clearTimeout(playing?.timer);
  playing = null;
  changed();
}

function startPlaying() {
  const [first, last] = ranges();
  if (model.frame >= last) goTo(first);
  playing = { from: model.frame, began: performance.now() };
  const turn = () => {
    if (!playing) return;
    const fps = model.video.fps ?? 25;
    if (shown.frame === model.frame) {
      const due = playing.from + Math.floor((performance.now() - playing.began) / 1000 * fps);
      if (due > model.frame + 1) { playing.from = model.frame; playing.began = performance.now() - 1000 / fps; }
      if (due > model.frame) goTo(model.frame + 1);
      ahead(AHEAD);
    }
    if (model.frame >= ranges()[1]) { stopPlaying(); return; }
    playing.timer = setTimeout(turn, 500 / fps);
  };
  turn();
}

async function track(given) {
  stopPlaying();
  follow = true;
  stepMs = 0;
  forgetPrompts();
  await send("track", { frame: model.frame, ...given });
}

const does = {
  tool(name) { model.tool = name; changed(); },
  brush(factor) { model.brush = Math.round(Math.min(120, Math.max(2, model.brush * factor + (factor > 1 ? 1 : -1)))); changed(); },
  async add() {
    stopPlaying();
    const told = await send("add");
    if (told) model.chosen = told.objects.at(-1).id;
    changed();
  },
  choose(place) { const found = model.objects[place - 1]; if (found) choose(found.id); },
  clear(id = model.chosen) { if (object(id)) { choose(id); forgetPrompts(); draw("clear", {}); } },
  async remove(id = model.chosen) {
    const gone = object(id);
    if (!gone) return;
    forgetPrompts();
    if (!await send("remove", { object: id })) return;
    toast(`${gone.name} is removed. Undo (Z) brings it back.`);
  },
  rename(id, name) { if (name && name !== object(id)?.name) send("rename", { object: id, name }); else changed(); },
  show(id) { if (!model.off.delete(id)) model.off.add(id); changed(); },
  masks() { model.masksShown = !model.masksShown; changed(); },
  async undo() { if (model.undo) await revert("undo"); },
  async redo() { if (model.redo) await revert("redo"); },
  async track() {
    if (model.work?.kind === "track") await send("stop");
    else if (model.objects.length) await track({});
  },
  async trackBack() { if (model.objects.length && !model.work) await track({ backward: true }); },
  async step() { if (model.objects.length && !model.work) await track({ steps: 1 }); },
  async play() {
    if (model.video.live && model.work?.kind === "watch" && !follow) { follow = true; changed(); }
    else if (model.work) await send("stop");
    else if (model.video.live) { follow = true; await send("watch"); }
    else if (playing) stopPlaying();
    else startPlaying();
  },
  move(by) { stopPlaying(); follow = false; goTo(model.frame + by); },
  jump(way) {
    const rest = model.drawn.filter((frame) => (frame - model.frame) * way > 0);
    if (rest.length) does.move((way > 0 ? rest[0] : rest.at(-1)) - model.frame);
  },
  zoom(factor) { stage.zoomBy(factor); },
  fit() { stage.fit(); },
  export() { showKinds(export_); showExport(0, 0); byId("export").showModal(); },
  help() { const sheet = byId("help"); if (sheet.open) sheet.close(); else sheet.showModal(); },
  escape() {
    if (stage.gesture) stage.cancel();
    else if (playing) stopPlaying();
    else if (model.work) send("stop");
    else forgetPrompts();
  },
};
async function revert(action) {
  stopPlaying();
  forgetPrompts();
  const told = await send(action);
  if (told?.changed) goTo(told.changed.frame);
}

async function export_(kind) {
  stopPlaying();
  wantsFile = kind;
  try { await startExport(kind); } catch (error) { complain(error); }
}

// Being told

const hears = {
  frame(facts) {
    takeFrame(facts);
    stepMs = stepMs ? 0.8 * stepMs + 0.2 * facts.ms : facts.ms;
    refresh(facts.frame);
    if (follow) goTo(facts.frame);
  },
  live(facts) {
    Object.assign(model.video, { first: facts.first, end: facts.end });
    if (follow && !stage.gesture) goTo(facts.frame); else changed();
  },
  work({ work }) { model.work = work; showExport(0, 0); changed(); },
  change: takeChange,
  export({ done, total }) { showExport(done, total); },
  exported({ name }) { if (wantsFile === name) download(name); wantsFile = null; },
  error({ message }) { toast(message); },
  state() { load(); },
};

async function load() {
  try {
    takeState(await askState());
    showClip();
    goTo(model.frame);
    refreshAll();
  } catch (error) { complain(error); }
}

function showClip() {
  const { video, engine } = model;
  document.title = `${video.label} · vcedge studio`;
  byId("clip-name").textContent = video.label;
  const fps = video.fps ? ` · ${+video.fps.toFixed(2)} fps` : "";
  const length = video.live ? " · live" : ` · ${video.end} frames`;
  byId("clip-facts").textContent = `${video.width}×${video.height}${fps}${length}`;
  byId("model").textContent = [engine.name, engine.size, engine.backend].filter(Boolean).join(" · ");
}

// The page

const probe = byId("probe");
const colours = new Map();
function colourOf(name) {
  if (!colours.has(name)) {
    probe.style.color = `var(${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

export const stage = new Stage(byId("stage"), hand);
const timeline = new Timeline(byId("timeline"), (frame) => { stopPlaying(); follow = false; goTo(frame); }, colourOf);

onChange(() => {
  if (!model.video) return;
  showObjects(does);
  showTools();
  showTransport(Boolean(playing) || (follow && model.work?.kind === "watch"), stepMs);
  showHint(Boolean(playing));
  stage.showCursor();
  stage.draw();
  timeline.draw();
});

function press(id, deed) { byId(id).addEventListener("click", () => deed()); }

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  colours.clear();
  changed();
}

for (const button of document.querySelectorAll("[data-tool]")) {
  button.addEventListener("click", () => does.tool(button.dataset.tool));
}
for (const button of document.querySelectorAll("[data-sign]")) {
  button.addEventListener("click", () => { model.sign = button.dataset.sign; changed(); });
}
byId("brush-size").addEventListener("input", (event) => { model.brush = +event.target.value; changed(); });
press("add", does.add);
press("undo", does.undo);
press("redo", does.redo);
press("masks", does.masks);
press("track", does.track);
press("track-back", does.trackBack);
press("step", does.step);
press("play", does.play);
press("back", () => does.move(-1));
press("next", () => does.move(1));
press("first", () => does.move(-Infinity));
press("last", () => does.move(Infinity));
press("export-open", does.export);
press("help-open", does.help);
press("load", () => byId("load-file").click());
byId("load-file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  try {
    takeChange(await sendMask(shown.frame, file));
  } catch (error) { complain(error); }
});
press("theme", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  localStorage.setItem("vcedge-theme", next);
  setTheme(next);
});
setTheme(localStorage.getItem("vcedge-theme"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme());

const table = keyTable(does);
listenToKeys(table, does);
fillSheet(byId("keys"), table);
listen(
  (told) => hears[told.kind]?.(told),
  (answers, again) => { byId("lost").hidden = answers; if (answers && again) load(); },
);
await load();
if (model.video?.live) does.play();
