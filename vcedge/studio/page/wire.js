// What goes over the wire: requests, events, frames and masks. All addresses are relative: they
// hold the folder that the studio was opened with.

async function answer(response) {
  const told = response.headers.get("content-type")?.startsWith("application/json")
    ? await response.json() : {};
  if (!response.ok) throw new Error(told.error ?? `The studio answered ${response.status}.`);
  return told;
}

export async function ask(action, given = {}) {
  const headers = { "content-type": "application/json" };
  return answer(await fetch(`do/${action}`, { method: "POST", headers, body: JSON.stringify(given) }));
}

export async function askState() { return answer(await fetch("state")); }

export async function startExport(kind) {
  return answer(await fetch(`export/${kind}`, { method: "POST" }));
}

export async function sendMask(frame, file) {
  return answer(await fetch(`masks/${frame}`, { method: "PUT", body: file }));
}

export function listen(onEvent, onConnection) {
  const events = new EventSource("events");
  let broken = false;
  events.onopen = () => { onConnection(true, broken); broken = false; };
  events.onerror = () => { broken = true; onConnection(false, true); };
  events.onmessage = (message) => onEvent(JSON.parse(message.data));
}

// Keeps the last ones that were loaded, up to so many bytes; asks once for each.
class Kept {
  constructor(load, mostBytes, sizeOf, drop) {
    Object.assign(this, { load, mostBytes, sizeOf, drop });
    this.kept = new Map();
    this.waiting = new Map();
    this.bytes = 0;
  }

  peek(key) { return this.kept.get(key); }

  get(key) {
    const found = this.kept.get(key);
    if (found) {
      this.kept.delete(key);
      this.kept.set(key, found);
      return Promise.resolve(found);
    }
    if (!this.waiting.has(key)) {
      const loading = this.load(key).then((value) => {
        if (this.waiting.get(key) === loading) {
          this.waiting.delete(key);
          this.keep(key, value);
        }
        return value;
      }, (error) => {
        if (this.waiting.get(key) === loading) this.waiting.delete(key);
        throw error;
      });
      this.waiting.set(key, loading);
    }
    return this.waiting.get(key);
  }

  keep(key, value) {
    this.forget(key);
    this.kept.set(key, value);
    this.bytes += this.sizeOf(value);
    for (const [old, was] of this.kept) {
      if (this.bytes <= this.mostBytes || this.kept.size <= 2) break;
      this.kept.delete(old);
      this.bytes -= this.sizeOf(was);
      this.drop(was);
    }
  }

  forget(key) {
    const found = this.kept.get(key);
    this.waiting.delete(key);
    if (!found) return;
    this.kept.delete(key);
    this.bytes -= this.sizeOf(found);
  }

  forgetAll() { for (const key of [...this.kept.keys(), ...this.waiting.keys()]) this.forget(key); }
}

export const frames = new Kept(async (frame) => {
  const response = await fetch(`frames/${frame}`);
  if (!response.ok) await answer(response);
  return createImageBitmap(await response.blob());
}, 2 ** 27, (image) => 4 * image.width * image.height, () => {});

// A mask: the id of each pixel of the view, row after row. See runs_of in records.py.
export const masks = new Kept(async (frame) => {
  const response = await fetch(`masks/${frame}`);
  if (!response.ok) await answer(response);
  const data = await response.arrayBuffer();
  const count = new DataView(data).getUint32(0, true);
  const lengths = new Uint32Array(data, 4, count);
  const values = new Uint8Array(data, 4 + 4 * count, count);
  const ids = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0));
  for (let at = 0, run = 0; run < count; at += lengths[run++]) {
    ids.fill(values[run], at, at + lengths[run]);
  }
  return ids;
}, 2 ** 26, (ids) => ids.length, () => {});
