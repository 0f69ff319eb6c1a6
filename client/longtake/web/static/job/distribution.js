// How long frames take: the distribution, its middle and its tail, and those that stand out.

import { fill, h, oncePerFrame, setText } from "../dom.js";
import { counted, duration } from "../format.js";
import { stateColours } from "./colouring.js";
import { DONE } from "./columns.js";
import { tooltip } from "./tooltip.js";

/** @typedef {import("./model.js").JobModel} JobModel */

const MOST_BINS = 36;
const LEAST_BINS = 8;
const HEIGHT = 96;
const SHOWN_OUTLIERS = 6;

/** @param {JobModel} model @param {import("../app.js").Context} context */
export function distributionPanel(model, context) {
  const { signal } = context;
  const title = h("h2", { id: "times-title" });
  const note = h("span", { class: "faint" });
  const canvas = h("canvas", { class: "times-canvas", role: "img", "aria-label": "Distribution of times" });
  const scale = h("div", { class: "times-scale faint", "aria-hidden": "true" });
  const outliers = h("div", { class: "outliers" });
  const element = h("section", { class: "panel sec times", "aria-labelledby": "times-title", hidden: true }, h("header", {}, title, note), canvas, scale, outliers);
  const tip = tooltip();
  let colours = stateColours();
  /** @type {{counts: Uint32Array, from: number, width: number, fence: number}} */
  let bins = { counts: new Uint32Array(LEAST_BINS), from: 0, width: 1, fence: Infinity };

  function count() {
    const { seconds } = model.measures;
    element.hidden = seconds.count < 2;
    if (element.hidden) return;
    setText(title, `Time a ${model.unit}`);
    setText(note, `p50 ${duration(seconds.p50)} · p95 ${duration(seconds.p95)}`);
    const fence = findFence(seconds);
    const from = seconds.least;
    const to = Math.min(seconds.most, Math.max(fence, seconds.p99) * 1.1);
    const size = Math.min(MOST_BINS, Math.max(LEAST_BINS, Math.round(2 * Math.sqrt(seconds.count))));
    const width = Math.max((to - from) / size, 1e-6);
    const counts = new Uint32Array(size);
    for (const value of seconds.sorted) counts[Math.min(size - 1, Math.floor((value - from) / width))]++;
    bins = { counts, from, width, fence };
    fill(scale, h("span", {}, duration(from)), h("span", {}, seconds.most > to * 1.01 ? `${duration(to)} and more` : duration(to)));
    canvas.setAttribute("aria-label", `Distribution of times: from ${duration(seconds.least)} to ${duration(seconds.most)}, half within ${duration(seconds.p50)}, 95 % within ${duration(seconds.p95)}`);
    showOutliers(fence);
    paint();
  }

  /** @param {number} fence */
  function showOutliers(fence) {
    /** @type {Array<[number, number]>} */
    let found = [];
    let total = 0;
    for (let chunk = 0; chunk < model.state.length; chunk++) {
      const value = model.secondsOf(chunk);
      if (!(value > fence) || model.state[chunk] !== DONE) continue;
      total++;
      found.push([value, chunk]);
      if (found.length > 200) found = found.sort((a, b) => b[0] - a[0]).slice(0, SHOWN_OUTLIERS);
    }
    found = found.sort((a, b) => b[0] - a[0]).slice(0, SHOWN_OUTLIERS);
    fill(
      outliers,
      total > 0 && h("p", { class: "soft" }, `${counted(total, "chunk")} took much longer than the others:`),
      found.map(([value, chunk]) =>
        h(
          "button",
          { class: "btn outlier", type: "button", on: { click: () => model.selectChunk(chunk), pointerenter: () => model.setHover({ source: "times", chunk }), pointerleave: () => model.setHover(null) } },
          h("span", {}, model.layout.nameOf(chunk).replace("frame ", "")), h("span", { class: "faint" }, duration(value)),
        ),
      ),
    );
  }

  const paint = oncePerFrame(() => {
    const width = element.clientWidth - 34;
    if (width <= 0) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.height = `${HEIGHT}px`;
    const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    g.scale(ratio, ratio);
    const most = Math.max(1, ...bins.counts);
    const step = width / bins.counts.length;
    const chosen = model.selection && model.secondsOf(model.selection.chunk);
    const lit = model.hover?.source !== "times" && model.hover?.chunk !== undefined ? model.secondsOf(model.hover.chunk) : null;
    for (let i = 0; i < bins.counts.length; i++) {
      if (!bins.counts[i]) continue;
      const height = Math.max(2, (bins.counts[i] / most) * (HEIGHT - 4));
      g.fillStyle = bins.from + i * bins.width >= bins.fence ? colours.fail : colours.done;
      g.fillRect(Math.round(i * step), HEIGHT - height, Math.max(1, Math.floor(step) - 1), height);
    }
    const { p50, p95 } = model.measures.seconds;
    for (const at of [p50, p95]) line(g, at, step, colours.soft, 1);
    if (chosen) line(g, chosen, step, colours.ink, 2);
    if (lit) line(g, lit, step, colours.ink, 1);
  });

  /** @param {CanvasRenderingContext2D} g @param {number} value @param {number} step @param {string} colour @param {number} width */
  function line(g, value, step, colour, width) {
    const at = Math.min(bins.counts.length, (value - bins.from) / bins.width) * step;
    g.fillStyle = colour;
    g.fillRect(Math.round(at), 0, width, HEIGHT);
  }

  /** @param {PointerEvent|MouseEvent} event */
  const binAt = (event) => Math.min(bins.counts.length - 1, Math.max(0, Math.floor((event.offsetX / canvas.clientWidth) * bins.counts.length)));
  /** @param {number} bin @returns {[number, number]} */
  const extentOf = (bin) => [bins.from + bin * bins.width, bin === bins.counts.length - 1 ? Infinity : bins.from + (bin + 1) * bins.width];

  let hovered = -1;
  canvas.addEventListener("pointermove", (event) => {
    const bin = binAt(event);
    const [from, to] = extentOf(bin);
    tip.show(event, [h("b", {}, counted(bins.counts[bin], "chunk")), h("span", { class: "soft" }, to === Infinity ? `${duration(from)} and more` : `${duration(from)} to ${duration(to)}`)]);
    if (bin === hovered) return;
    hovered = bin;
    model.setHover({ source: "times", test: (chunk) => model.state[chunk] === DONE && model.secondsOf(chunk) >= from && model.secondsOf(chunk) < to });
  });
  canvas.addEventListener("pointerleave", () => ((hovered = -1), tip.hide(), model.setHover(null)));
  canvas.addEventListener("click", (event) => {
    const [from, to] = extentOf(binAt(event));
    let best = -1;
    for (let chunk = 0; chunk < model.state.length; chunk++) {
      const value = model.secondsOf(chunk);
      if (value >= from && value < to && (best < 0 || value > model.secondsOf(best))) best = chunk;
    }
    if (best >= 0) model.selectChunk(best);
  });

  model.on("columns layout", count, signal);
  model.on("select hover", paint, signal);
  document.addEventListener("themechange", () => ((colours = stateColours()), paint()), { signal });
  const watcher = new ResizeObserver(paint);
  watcher.observe(element);
  signal.addEventListener("abort", () => (watcher.disconnect(), tip.remove()));
  return element;
}

/** Where what stands out begins: three times the middle half above it (Tukey). @param {import("./columns.js").Measure} measured */
function findFence({ sorted, count }) {
  if (count < 8) return Infinity;
  const [low, high] = [sorted[Math.floor(count / 4)], sorted[Math.floor((3 * count) / 4)]];
  return high + 3 * Math.max(high - low, high * 0.05);
}
