// What the page knows: the video, its objects, what is drawn, what runs. Others read it, and
// `update` it by what the studio tells.

export const UNKNOWN = 0, UNSEEN = 1, LEAST = 2, MOST = 202; // see records.py

export const model = {
  video: null, engine: null, exports: [], objects: [], lanes: new Map(), drawn: [], work: null,
  undo: false, redo: false,
  frame: 0, // the one that is shown
  chosen: null, // id of the object that is drawn
  tool: "box", brush: 24, sign: "plus",
  off: new Set(), // ids that are not shown
  masksShown: true,
  prompts: null, // { frame, object, box, clicks } of the object that is being drawn
};

const listeners = new Set();
let told = false;

export function onChange(listener) { listeners.add(listener); }

// Tell everyone, once before the next picture.
export function changed() {
  if (told) return;
  told = true;
  requestAnimationFrame(() => {
    told = false;
    for (const listener of listeners) listener();
  });
}

export function object(id) { return model.objects.find((each) => each.id === id); }

export function ranges() { return model.video ? [model.video.first, model.video.end - 1] : [0, 0]; }

export function laneOf(id) {
  let lane = model.lanes.get(id);
  if (!lane || lane.length < model.video.end) {
    const longer = new Uint8Array(Math.max(256, Math.ceil(model.video.end * 1.5)));
    if (lane) longer.set(lane);
    model.lanes.set(id, lane = longer);
  }
  return lane;
}

export function scoreOf(id, frame = model.frame) {
  const value = laneOf(id)[frame] ?? UNKNOWN;
  if (value === UNKNOWN) return null;
  return value === UNSEEN ? 0 : (value - LEAST) / (MOST - LEAST);
}

export function hasMask(frame = model.frame) {
  return model.objects.some((each) => laneOf(each.id)[frame]) || model.drawn.includes(frame);
}

export function isDrawn(frame = model.frame) { return model.drawn.includes(frame); }

export function takeState(state) {
  Object.assign(model, { video: state.video, engine: state.model, exports: state.exports, work: state.work });
  model.lanes = new Map();
  for (const [id, text] of Object.entries(state.lanes)) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    laneOf(+id).set(bytes, state.video.first);
  }
  takeObjects(state);
}

export function takeObjects(state) {
  const { objects, drawn, undo, redo } = state;
  Object.assign(model, { objects, drawn, undo, redo });
  if (!object(model.chosen)) model.chosen = objects.at(-1)?.id ?? null;
  changed();
}

// What a frame's objects are now; gives whether its mask may differ.
export function takeFrame(facts) {
  if (facts.end) Object.assign(model.video, { first: facts.first, end: facts.end });
  for (const [id, value] of Object.entries(facts.lanes)) laneOf(+id)[facts.frame] = value;
  const known = model.drawn.indexOf(facts.frame);
  if (facts.drawn && known < 0) model.drawn = [...model.drawn, facts.frame].sort((a, b) => a - b);
  if (!facts.drawn && known >= 0) model.drawn = model.drawn.filter((each) => each !== facts.frame);
  changed();
}
