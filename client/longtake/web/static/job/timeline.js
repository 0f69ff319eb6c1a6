// Hosts over time: who rendered what, when; where it failed, stood still, or had nothing to do.

import { fill, h, oncePerFrame, setText } from "../dom.js";
import { clock, count, counted, duration } from "../format.js";
import { hasEnded } from "../jobfilter.js";
import { stateColours } from "./colouring.js";
import { tooltip } from "./tooltip.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {{host: string, lanes: Bar[][], top: number, lane: number}} HostRow what a host did at once stands in lanes; lengths in pixels of CSS */
/** @typedef {{host: string, start: number, stop: number, chunk: number, kind: "rendered"|"failed"|"running"|"frozen", chunks?: number}} Bar */

const SHORT_SECONDS = 6 * 3600;
const LOOK_EVERY_MS = 5000;
const AXIS = 22;
// Clocks of attempts are read at both ends: one may seem to begin a moment before the last one ended.
const OVERLAP_SECONDS = 0.5;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/** @param {JobModel} model @param {import("../app.js").Context} context */
export function timelinePanel(model, context) {
  const { api, id, signal } = context;
  /** @type {HostRow[]} */
  let rows = [];
  let isShort = true;
  let colours = stateColours();
  let trouble = "";
  /** What is drawn: where time begins and ends, and the lengths of things in pixels of CSS. */
  let view = { start: 0, stop: 1, left: 60, width: 0 };

  const note = h("span", { class: "faint" });
  const span = h("span", { class: "seg", role: "group", "aria-label": "How long", hidden: true });
  const canvas = h("canvas", { class: "timeline-canvas", role: "img", "aria-label": "Hosts over time" });
  const axis = h("canvas", { class: "timeline-axis", "aria-hidden": "true" });
  const scroller = h("div", { class: "timeline-scroller", tabIndex: 0, role: "group", "aria-label": "Bars of the hosts" }, canvas);
  const empty = h("p", { class: "soft", hidden: true });
  const words = h("table", { class: "words-table" });
  const details = h("details", { class: "map-words" }, h("summary", { class: "faint" }, "In words"), h("div", { class: "scroll-x" }, words));
  const legend = h("div", { class: "legend" }, [["done", "rendered"], ["failed", "failed"], ["running", "renders"], ["frozen", "frozen"]].map(([look, text]) => h("span", {}, h("i", { class: "cell", dataset: { look } }), text)));
  const tip = tooltip();
  const element = h("section", { class: "panel sec timeline", "aria-labelledby": "timeline-title" }, h("header", {}, h("h2", { id: "timeline-title" }, "Hosts over time"), note, h("span", { class: "sp" }, span)), empty, scroller, axis, h("div", { class: "map-foot" }, legend, details));
  fill(span, [[true, "6 h"], [false, "All"]].map(([value, label]) => h("button", { type: "button", dataset: { short: String(value) }, on: { click: () => ((isShort = /** @type {boolean} */ (value)), void read(), lay()) } }, label)));

  const now = () => Date.now() / 1000;
  const isOver = () => hasEnded(model.status);

  function lay() {
    const width = element.clientWidth - 34;
    if (width <= 0) return;
    const began = model.status.started_at ? Date.parse(model.status.started_at) / 1000 : Infinity;
    const all = rows.flatMap((row) => row.lanes.flat());
    const first = all.reduce((least, bar) => Math.min(least, bar.start), all.length ? Infinity : began);
    const last = isOver() ? all.reduce((most, bar) => Math.max(most, bar.stop), first + 1) : now();
    const isLong = last - first > SHORT_SECONDS;
    span.hidden = !rows.length || !isLong && last - Math.min(first, began) <= SHORT_SECONDS;
    for (const button of span.children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.short === String(isShort)));
    const start = isShort && isLong ? last - SHORT_SECONDS : first;
    const hosts = rows.length;
    const height = placeRows();
    view = { start, stop: Math.max(last, start + 1), left: labelWidth(), width };
    const isEmpty = hosts === 0;
    empty.hidden = !isEmpty;
    scroller.hidden = axis.hidden = legend.hidden = details.hidden = isEmpty;
    setText(empty, trouble || "Nothing is rendered yet: who rendered what, and when, is shown here.");
    setText(note, isEmpty ? "" : !isOver() ? `${clock(start)} to now` : last - start < 120 ? `${clock(start)}, ${duration(last - start)}` : `${clock(start)} to ${clock(last)}`);
    size(canvas, width, height);
    size(axis, width, AXIS);
    canvas.setAttribute("aria-label", isEmpty ? "Hosts over time" : `Hosts over time: ${counted(hosts, "host")}, ${clock(start)} to ${clock(view.stop)}`);
    paint();
    tellWords();
  }

  /** Give each host its place; returns how tall all are. */
  function placeRows() {
    let top = 0;
    for (const row of rows) {
      const lanes = row.lanes.length;
      row.top = top;
      row.lane = lanes === 1 ? (rows.length > 100 ? 10 : rows.length > 30 ? 15 : 22) : Math.max(4, Math.min(13, Math.floor(72 / lanes)));
      top += lanes * row.lane + (lanes > 1 ? 8 : 0);
    }
    return top;
  }

  function labelWidth() {
    const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    g.font = font();
    const widest = rows.reduce((most, { host }) => Math.max(most, g.measureText(host).width), 20);
    return Math.min(150, Math.ceil(widest) + 12);
  }
  const font = () => `12px ${getComputedStyle(document.body).fontFamily}`;

  /** @param {HTMLCanvasElement} canvas @param {number} width @param {number} height */
  function size(canvas, width, height) {
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(Math.min(height, 16000) * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }

  /** @param {number} at seconds */
  const x = (at) => view.left + ((at - view.start) / (view.stop - view.start)) * (view.width - view.left);

  const paint = oncePerFrame(() => {
    const ratio = devicePixelRatio || 1;
    const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, view.width, canvas.height);
    const ticks = ticksOf(view.start, view.stop, view.width - view.left);
    g.fillStyle = colours.line;
    for (const tick of ticks) g.fillRect(Math.round(x(tick)), 0, 1, canvas.height);
    const hatch = /** @type {CanvasPattern} */ (hatchOf(g, colours, ratio));
    for (const row of rows) {
      g.globalAlpha = 1;
      if (row.lanes.length > 1 || row.lane >= 12) {
        g.font = font();
        g.textBaseline = "middle";
        g.fillStyle = model.hover?.host === row.host ? colours.ink : colours.soft;
        g.fillText(cut(g, row.host, view.left - 10), 0, row.top + Math.max(8, (row.lanes.length === 1 ? row.lane : Math.min(row.lanes.length * row.lane, 22)) / 2));
      }
      for (const [i, bars] of row.lanes.entries()) {
        const gap = row.lanes.length > 1 ? 1 : Math.max(2, Math.round(row.lane / 4));
        for (const [j, bar] of bars.entries()) paintBar(g, bar, row.top + i * row.lane + gap / 2, row.lane - gap, j % 2 === 1, hatch);
      }
    }
    g.globalAlpha = 1;
    paintAxis(ticks, ratio);
  });

  /** When a bar ends: what runs goes on. @param {Bar} bar */
  const stopOf = (bar) => ((bar.kind === "running" || bar.kind === "frozen") && !isOver() ? Math.max(bar.stop, now()) : bar.stop);

  /**
   * @param {CanvasRenderingContext2D} g @param {Bar} bar @param {number} top @param {number} height
   * @param {boolean} isOdd neighbours differ a little, as bricks do @param {CanvasPattern} hatch
   */
  function paintBar(g, bar, top, height, isOdd, hatch) {
    const stop = stopOf(bar);
    if (stop < view.start) return;
    const { hover, selection } = model;
    const left = Math.max(view.left, x(bar.start));
    const width = Math.max(1, x(stop) - left - (x(stop) - left > 4 ? 1 : 0));
    const isSingle = (bar.chunks ?? 1) === 1;
    const isLit = !!hover && isSingle && model.isLit(bar.chunk);
    // One frame among others stands out by its outline; the screen would flicker as the pointer goes over the map.
    const isDimmed = !isLit && !!(hover?.ranges || hover?.test || hover?.host);
    const isSelected = isSingle && selection?.chunk === bar.chunk;
    g.globalAlpha = isDimmed ? 0.4 : bar.kind === "rendered" && !isLit && isOdd ? 0.78 : 1;
    g.fillStyle = bar.kind === "rendered" ? colours.done : bar.kind === "running" ? colours.run : bar.kind === "frozen" ? colours.ice : hatch;
    g.fillRect(left, top, width, height);
    if (bar.kind === "frozen" && width > 5 && height > 5) {
      g.fillStyle = colours.panel;
      for (let at = left + 3; at < left + width - 2; at += 6) g.fillRect(at, top + 2, 2, height - 4);
    }
    if (bar.kind !== "failed" && !isLit && !isSelected) return;
    g.globalAlpha = 1;
    g.lineWidth = isLit || isSelected ? 2 : 1;
    g.strokeStyle = isLit || isSelected ? colours.ink : colours.fail;
    g.strokeRect(left + 0.5, top + 0.5, Math.max(1, width - 1), height - 1);
  }

  /** @param {number[]} ticks @param {number} ratio */
  function paintAxis(ticks, ratio) {
    const g = /** @type {CanvasRenderingContext2D} */ (axis.getContext("2d"));
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, view.width, AXIS);
    g.font = font();
    g.fillStyle = colours.faint;
    g.textBaseline = "top";
    const seconds = view.stop - view.start < 600;
    const days = view.stop - view.start > 86400;
    for (const tick of ticks) {
      const date = new Date(tick * 1000);
      const text = seconds ? date.toLocaleTimeString("en-GB") : days ? clock(date) : date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
      const width = g.measureText(text).width;
      g.fillText(text, Math.min(view.width - width, Math.max(view.left, x(tick) - width / 2)), 5);
    }
  }

  function tellWords() {
    if (!details.open) return;
    const lines = rows.map(({ host, lanes }) => {
      const bars = lanes.flat();
      const busy = bars.reduce((sum, bar) => sum + bar.stop - bar.start, 0);
      const of = (/** @type {string} */ kind) => bars.filter((bar) => bar.kind === kind).reduce((sum, bar) => sum + (bar.chunks ?? 1), 0);
      return h("tr", {}, h("th", { scope: "row" }, host), [of("rendered"), of("failed"), of("running") + of("frozen")].map((value) => h("td", { class: "num" }, count(value))), h("td", { class: "num" }, duration(busy)));
    });
    fill(words, h("thead", {}, h("tr", {}, ["Host", "Rendered", "Failed", "Renders", "Busy for"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, lines));
  }
  details.addEventListener("toggle", tellWords);

  /** @param {PointerEvent|MouseEvent} event */
  function barAt(event) {
    const box = canvas.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const row = rows.findLast((one) => one.top <= py);
    if (!row) return {};
    const { host } = row;
    const lane = row.lanes[Math.floor((py - row.top) / row.lane)];
    if (px < view.left || !lane) return { host };
    const at = view.start + ((px - view.left) / (view.width - view.left)) * (view.stop - view.start);
    const slack = ((view.stop - view.start) / view.width) * 2;
    const bar = lane.findLast((one) => one.start - slack <= at && at <= stopOf(one) + slack);
    return { host, bar };
  }
  canvas.addEventListener("pointermove", (event) => {
    const { host, bar } = barAt(event);
    canvas.style.cursor = bar ? "pointer" : "default";
    if (!bar) {
      tip.hide();
      model.setHover(host && event.offsetX < view.left ? { source: "timeline", host } : null);
      return;
    }
    model.setHover({ source: "timeline", chunk: bar.chunk, place: (bar.chunks ?? 1) === 1 ? model.layout.placeOf(bar.chunk) : undefined });
    tip.show(event, [
      h("b", {}, (bar.chunks ?? 1) > 1 ? counted(bar.chunks ?? 1, "chunk") : capital(model.layout.nameOf(bar.chunk))),
      h("span", { class: "tip-state" }, h("i", { class: "cell", dataset: { look: bar.kind === "rendered" ? "done" : bar.kind } }), bar.kind, " on ", bar.host),
      h("span", { class: "soft" }, `${clock(bar.start)} · ${duration(stopOf(bar) - bar.start)}`),
    ]);
  });
  canvas.addEventListener("pointerleave", () => (tip.hide(), model.setHover(null)));
  canvas.addEventListener("click", (event) => {
    const { bar } = barAt(event);
    if (bar) model.selectChunk(bar.chunk);
  });

  async function read() {
    try {
      const since = isShort && !isOver() ? now() - SHORT_SECONDS : 0;
      const found = await api.get(api.job(id, "timeline"), { query: since ? { since } : {}, signal });
      const bars = /** @type {Bar[]} */ (Array.isArray(found) ? found : found.bars ?? []);
      /** @type {Map<string, Bar[]>} */
      const grouped = new Map();
      for (const bar of bars.sort((a, b) => a.start - b.start)) {
        const list = grouped.get(bar.host);
        if (list) list.push(bar);
        else grouped.set(bar.host, [bar]);
      }
      rows = [...grouped].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true })).map(([host, list]) => ({ host, lanes: layLanes(list), top: 0, lane: 0 }));
      trouble = "";
    } catch (error) {
      if (signal.aborted) return;
      trouble = `Not known now: ${/** @type {Error} */ (error).message}`;
    }
    lay();
  }

  async function keep() {
    let known = "";
    while (!signal.aborted) {
      const { status } = model;
      const runs = (status.running ?? []).map((/** @type {any} */ one) => one.chunk).join();
      const next = [status.state, model.published, status.failed_chunks, runs].join(" ");
      if (next !== known) await read();
      else if (!isOver() && !document.hidden) lay();
      // A store that is away is asked again.
      known = trouble ? "" : next;
      await api.pause(LOOK_EVERY_MS, signal);
    }
  }

  model.on("hover select", paint, signal);
  document.addEventListener("themechange", () => ((colours = stateColours()), paint()), { signal });
  const watcher = new ResizeObserver(oncePerFrame(lay));
  watcher.observe(element);
  signal.addEventListener("abort", () => (watcher.disconnect(), tip.remove()));
  void keep();
  return element;
}

/** Lay bars that overlap side by side: each into the first lane that is free. @param {Bar[]} bars by their start @returns {Bar[][]} */
function layLanes(bars) {
  /** @type {Bar[][]} */
  const lanes = [];
  for (const bar of bars) {
    const free = lanes.find((lane) => lane[lane.length - 1].stop <= bar.start + Math.min(OVERLAP_SECONDS, (bar.stop - bar.start) / 10));
    if (free) free.push(bar);
    else lanes.push([bar]);
  }
  return lanes;
}

/** Times to mark, at round distances. @param {number} start @param {number} stop @param {number} width */
function ticksOf(start, stop, width) {
  const most = Math.max(2, Math.floor(width / 90));
  const step = STEPS.find((one) => (stop - start) / one <= most) ?? STEPS[STEPS.length - 1];
  const shift = new Date(start * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let at = Math.ceil((start - shift) / step) * step + shift; at <= stop; at += step) ticks.push(at);
  return ticks;
}

/** @param {CanvasRenderingContext2D} g @param {import("./colouring.js").Colours} colours @param {number} ratio */
function hatchOf(g, colours, ratio) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = Math.round(6 * ratio);
  const t = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  t.scale(ratio, ratio);
  t.fillStyle = colours.panel;
  t.fillRect(0, 0, 6, 6);
  t.strokeStyle = colours.fail;
  t.lineWidth = 2.4;
  for (const shift of [-6, 0, 6]) {
    t.beginPath();
    t.moveTo(shift, 6);
    t.lineTo(shift + 6, 0);
    t.stroke();
  }
  const pattern = g.createPattern(tile, "repeat");
  pattern?.setTransform(new DOMMatrix().scale(1 / ratio));
  return pattern;
}

/** @param {CanvasRenderingContext2D} g @param {string} text @param {number} width */
function cut(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && g.measureText(`${text.slice(0, end)}…`).width > width) end--;
  return `${text.slice(0, end)}…`;
}

/** @param {string} text */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
