// The keyboard: what each key does, and the sheet that says so.

import { make } from "./panels.js";

const COMMAND = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";

// `does` are the page's deeds by name.
export function keyTable(does) {
  return [
    ["Draw", [
      ["B", "Box around an object", () => does.tool("box")],
      ["C", "Click on it", () => does.tool("click")],
      ["Right click", "Click on what is not it"],
      ["P", "Brush", () => does.tool("brush")],
      ["E", "Eraser", () => does.tool("erase")],
      ["[", "Smaller brush", () => does.brush(1 / 1.2)],
      ["]", "Larger brush", () => does.brush(1.2)],
      ["X", "It is not in this frame", () => does.clear()],
      ["Z", "Undo", () => does.undo()],
      ["Shift+Z", "Do it again", () => does.redo()],
    ]],
    ["Objects", [
      ["N", "New object", () => does.add()],
      ["1 … 9", "Choose an object"],
      ["Delete", "Remove it from the whole video", () => does.remove()],
      ["H", "Show or hide the masks", () => does.masks()],
    ]],
    ["Track", [
      ["T", "Track to the end, or stop", () => does.track()],
      ["Shift+T", "Track backward", () => does.trackBack()],
      ["S", "Track one frame", () => does.step()],
    ]],
    ["Look", [
      ["Space", "Play, pause, stop", () => does.play()],
      ["←", "One frame back", () => does.move(-1)],
      ["→", "One frame on", () => does.move(1)],
      ["Shift+←", "Ten frames back", () => does.move(-10)],
      ["Shift+→", "Ten frames on", () => does.move(10)],
      ["Home", "First frame", () => does.move(-Infinity)],
      ["End", "Last frame", () => does.move(Infinity)],
      [",", "Drawn frame before", () => does.jump(-1)],
      [".", "Drawn frame after", () => does.jump(1)],
      ["V", "Move the picture", () => does.tool("hand")],
      ["+", "Zoom in", () => does.zoom(1.25)],
      ["-", "Zoom out", () => does.zoom(0.8)],
      ["0", "Whole picture", () => does.fit()],
    ]],
    ["Studio", [
      ["Shift+E", "Export", () => does.export()],
      ["?", "These keys", () => does.help()],
      ["Esc", "Let go, close, stop", () => does.escape()],
    ]],
  ];
}

const NAMES = { ArrowLeft: "←", ArrowRight: "→", " ": "Space", Escape: "Esc", Backspace: "Delete", "=": "+" };
const PLAIN = new Set(["?", "+"]); // what takes Shift on many keyboards

export function listenToKeys(table, does) {
  const deeds = new Map();
  for (const [, rows] of table) for (const [key, , deed] of rows) if (deed) deeds.set(key, deed);
  addEventListener("keydown", (event) => {
    const target = event.target;
    const typing = target instanceof HTMLInputElement && target.type !== "range";
    if (typing || event.altKey) return;
    const name = NAMES[event.key] ?? (event.key.length === 1 ? event.key.toUpperCase() : event.key);
    if (event.ctrlKey || event.metaKey) {
      if (name !== "Z" && name !== "Y") return;
      event.preventDefault();
      (name === "Y" || event.shiftKey ? does.redo : does.undo)();
      return;
    }
    const open = document.querySelector("dialog[open]");
    if (open && name !== "?") return;
    // A button that has the focus is pressed by Space, and a slider moved by arrows, as everywhere.
    if (name === "Space" && target instanceof HTMLButtonElement) return;
    if (target instanceof HTMLInputElement && name.length === 1 && "←→".includes(name)) return;
    if (/^[1-9]$/.test(name)) does.choose(Number(name));
    const deed = deeds.get(event.shiftKey && !PLAIN.has(name) ? `Shift+${name}` : name);
    if (!deed) return;
    event.preventDefault();
    if (!event.repeat || "←→[]+-".includes(name)) deed();
  });
}

export function fillSheet(sheet, table) {
  sheet.replaceChildren(...table.map(([title, rows]) => make("section", {}, make("h3", {}, title),
    ...rows.map(([key, about]) => make("div", {}, make("span", {}, about),
      make("span", {}, ...key.split("+").filter(Boolean).concat(key === "+" ? ["+"] : []).map((each) => make("kbd", {}, each))))))));
  sheet.append(make("section", {}, make("h3", {}, "Mouse and fingers"),
    ...[["Wheel, or two fingers", "Zoom"], ["Middle button, or two fingers", "Move the picture"], [`${COMMAND}+Z`, "Undo"]]
      .map(([how, about]) => make("div", {}, make("span", {}, about), make("span", {}, make("kbd", {}, how))))));
}
