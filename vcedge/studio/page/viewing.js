// Which frame is shown: it is loaded with its mask, and drawn when both are there. Whoever scrubs
// wants the last frame of many; what is loaded on the way is shown too.

import { changed, hasMask, model, ranges } from "./model.js";
import { frames, masks } from "./wire.js";

export const shown = { frame: -1, image: null, ids: null, serial: 0 };

const empty = new Uint8Array(0);
let pumping = false;
let stale = false;
let onError = () => {};

export function tellErrors(handler) { onError = handler; }

export function isLoading() { return pumping && shown.frame !== model.frame; }

export function goTo(frame) {
  const [first, last] = ranges();
  const next = Math.min(last, Math.max(first, Math.round(frame)));
  if (next !== model.frame && model.prompts?.frame !== next) model.prompts = null;
  model.frame = next;
  changed();
  pump();
}

// The mask of a frame is another one now.
export function refresh(frame) {
  masks.forget(frame);
  if (frame !== model.frame) return;
  stale = true;
  pump();
}

export function refreshAll() {
  masks.forgetAll();
  stale = true;
  pump();
}

export function ahead(count) {
  const [, last] = ranges();
  for (let frame = model.frame + 1; frame <= Math.min(last, model.frame + count); frame++) {
    frames.get(frame).catch(() => {});
    if (hasMask(frame)) masks.get(frame).catch(() => {});
  }
}

async function pump() {
  if (pumping) return;
  pumping = true;
  try {
    while (shown.frame !== model.frame || stale) {
      stale = false;
      const wanted = model.frame;
      const mask = hasMask(wanted) ? masks.get(wanted) : empty;
      const [image, ids] = await Promise.all([frames.get(wanted), mask]);
      if (stale && wanted === model.frame) continue;
      Object.assign(shown, { frame: wanted, image, ids, serial: shown.serial + 1 });
      changed();
    }
  } catch (error) {
    stale = false;
    onError(error);
  } finally {
    pumping = false;
  }
}
