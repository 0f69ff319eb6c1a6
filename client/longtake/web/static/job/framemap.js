// The frame map: the film laid out in time, one cell a frame or chunk, with zoom, an overview strip and a legend.

import { fill, h, oncePerFrame, setText } from "../dom.js";
import { CHUNK_STATES, CHUNK_WORDS, bytes, count, counted, duration, ranges, time } from "../format.js";
import { BY, makeColouring, stateColours } from "./colouring.js";
import { DONE, FAILED, RUNNING } from "./columns.js";
import { frameCell, paintCells, paintStrip } from "./mappaint.js";
import { pictureAddress } from "./pictures.js";
import { tooltip } from "./tooltip.js";

/** @typedef {import("./model.js").JobModel} JobModel */

const SIZES = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 26, 34, 44];
// Cells are chosen as large as lets all of them fit, beyond this size where they are few; and not smaller than the other.
const LARGEST_CHOSEN = 26;
const SMALLEST_CHOSEN = 5;
const STRIP_HEIGHT = 22;

/**
 * @param {JobModel} model @param {import("../app.js").Context} context
 * @returns {HTMLElement}
 */
export function frameMap(model, context) {
  const { signal } = context;
  /** @type {import("./colouring.js").By} */
  let by = /** @type {any} */ (BY.find(([name]) => name === context.params.get("by"))?.[0] ?? "state");
  let colours = stateColours();
  let colouring = makeColouring(by, model, colours);
  /** Chosen by the user; 0: as it fits. */
  let chosenSize = 0;
  /** @type {boolean|null} */
  let chosenFrames = null;
  /** @type {import("./mappaint.js").Grid} */
  let grid = { size: 10, columns: 1, cells: 0, chunkOf: (cell) => cell, isFrame: false };
  let ratio = 1;

  const canvas = h("canvas", {
    class: "map-canvas", tabIndex: 0, role: "slider", "aria-roledescription": "frame map", "aria-label": "Frame map",
    "aria-describedby": "map-keys map-words", "aria-orientation": "horizontal", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0",
  });
  const spacer = h("div", { class: "map-spacer" }, canvas);
  const scroller = h("div", { class: "map-scroller" }, spacer);
  const strip = h("canvas", { class: "map-strip", "aria-hidden": "true" });
  const view = h("div", { class: "map-view", "aria-hidden": "true" });
  const overview = h("div", { class: "map-overview", hidden: true, title: "The whole job; click to go there" }, strip, view);
  const note = h("span", { class: "faint" });
  const legend = h("div", { class: "legend" });
  const trouble = h("p", { class: "notice wait map-trouble", hidden: true });
  const tip = tooltip();
  const units = h("span", { class: "seg", role: "group", "aria-label": "One cell is a", hidden: true });
  const colourings = h("span", { class: "seg", role: "group", "aria-label": "Colour by" });
  const zoomOut = h("button", { class: "btn icon", type: "button", title: "Smaller cells (-)", "aria-label": "Smaller cells", on: { click: () => zoom(-1) } }, "−");
  const zoomIn = h("button", { class: "btn icon", type: "button", title: "Larger cells (+, Ctrl and wheel)", "aria-label": "Larger cells", on: { click: () => zoom(1) } }, "+");
  const words = h("p", { id: "map-words", class: "soft" });
  const details = h("details", { class: "map-words" }, h("summary", { class: "faint" }, "In words"), words);

  const element = h(
    "section",
    { class: "panel sec map", "aria-labelledby": "map-title" },
    h("header", {}, h("h2", { id: "map-title" }, "Frame map"), note, h("span", { class: "sp" }, units, h("span", { class: "row zoom" }, zoomOut, zoomIn), colourings)),
    overview,
    scroller,
    trouble,
    h("div", { class: "map-foot" }, legend, details),
    h("p", { id: "map-keys", class: "unseen" }, "Arrows go from cell to cell, Home and End to the first and the last, n and N to the next and the last failed one, plus and minus change the size, Enter goes to the details, Escape selects nothing."),
  );
  fill(
    colourings,
    BY.map(([name, label]) => h("button", { type: "button", dataset: { by: name }, "aria-pressed": String(name === by), on: { click: () => colourBy(name) } }, label)),
  );
  fill(
    units,
    [[true, "Frames"], [false, "Chunks"]].map(([value, label]) => h("button", { type: "button", dataset: { frames: String(value) }, on: { click: () => ((chosenFrames = /** @type {boolean} */ (value)), lay()) } }, label)),
  );

  /** @param {import("./colouring.js").By} name */
  function colourBy(name) {
    by = name;
    for (const button of colourings.children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.by === by));
    context.setParams({ by: by === "state" ? null : by });
    recolour();
  }

  function recolour() {
    colours = stateColours();
    colouring = makeColouring(by, model, colours);
    fill(legend, colouring.legend(model));
    paint();
    paintOverview();
  }

  // ---- Where cells stand.

  const heightAllowed = () => Math.round(Math.min(360, Math.max(220, innerHeight * 0.42)));

  /** The largest cells that let all fit, in pixels of CSS. @param {number} cells @param {number} width */
  function sizeThatFits(cells, width) {
    const height = heightAllowed();
    const fits = SIZES.filter((size) => {
      const tall = Math.ceil(cells / Math.max(1, Math.floor(width / size))) * size;
      return tall <= (size > LARGEST_CHOSEN ? height / 3 : height);
    });
    return Math.max(SMALLEST_CHOSEN, fits.at(-1) ?? 0);
  }

  function lay() {
    const { layout } = model;
    const width = scroller.clientWidth;
    if (!width) return;
    ratio = devicePixelRatio || 1;
    const both = layout.isExact && layout.frames > layout.chunks;
    const framesFit = layout.frames <= Math.floor(width / SMALLEST_CHOSEN) * Math.floor(heightAllowed() / SMALLEST_CHOSEN);
    const isFrame = both && (chosenFrames ?? framesFit);
    units.hidden = !both;
    for (const button of units.children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.frames === String(isFrame)));
    const cells = isFrame ? layout.frames : layout.chunks;
    const wanted = chosenSize || sizeThatFits(cells, width);
    const size = Math.max(1, Math.round(wanted * ratio));
    const columns = Math.max(1, Math.floor((width * ratio) / size));
    grid = { size, columns, cells, isFrame, chunkOf: isFrame ? (cell) => layout.chunkAt(cell) : (cell) => cell };
    const height = Math.ceil(cells / columns) * size / ratio;
    const shown = Math.min(height, heightAllowed());
    const overflows = height > shown + 1;
    scroller.style.height = `${shown}px`;
    spacer.style.height = `${height}px`;
    canvas.style.height = `${shown}px`;
    canvas.style.width = `${width}px`;
    const [w, t] = [Math.round(width * ratio), Math.round(shown * ratio)];
    if (canvas.width !== w || canvas.height !== t) {
      canvas.width = w;
      canvas.height = t;
    }
    overview.hidden = !overflows;
    element.classList.toggle("overflows", overflows);
    if (overflows) {
      strip.width = Math.round(overview.clientWidth * ratio);
      strip.height = STRIP_HEIGHT * ratio;
    }
    const unit = isFrame || layout.perChunk === 1 && layout.isExact ? "1 cell = 1 frame" : layout.isExact ? `1 cell = ${counted(layout.perChunk, "frame")}` : "1 cell = 1 chunk";
    setText(note, !cells ? "the job is not planned yet" : `${unit} · ${layout.extent}`);
    canvas.setAttribute("aria-valuemax", String(Math.max(0, cells - 1)));
    tellSelection();
    paint();
    paintOverview();
  }

  /** @param {number} steps @param {number} [at] pixels from the top of what is seen that stay where they are */
  function zoom(steps, at = scroller.clientHeight / 2) {
    const now = Math.round(grid.size / ratio);
    const index = SIZES.findIndex((size) => size >= now);
    const next = SIZES[Math.min(SIZES.length - 1, Math.max(0, (index < 0 ? SIZES.length - 1 : index) + steps))];
    if (next === now) return;
    const cell = Math.floor(((scroller.scrollTop + at) * ratio) / grid.size) * grid.columns;
    const keep = model.selection ? cellOf(model.selection.place) : cell;
    chosenSize = next;
    lay();
    scroller.scrollTop = (Math.floor(keep / grid.columns) * grid.size) / ratio - at;
    paint();
  }

  // ---- Drawing.

  /** @param {number} place of a frame */
  const cellOf = (place) => (grid.isFrame ? place : model.layout.chunkAt(place));
  /** @param {number} cell */
  const placeOf = (cell) => (grid.isFrame ? cell : model.layout.placeOf(cell));

  const paint = oncePerFrame(() => {
    const g = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: true }));
    const top = Math.round(scroller.scrollTop * ratio);
    paintCells(g, top, grid, colouring, colours, model);
    if (model.hover) paintLit(g, top);
    if (model.selection) frameCell(g, top, grid, cellOf(model.selection.place), colours.ink, Math.max(2, Math.round(2 * ratio)));
    if (!overview.hidden) {
      const [seen, all] = [scroller.clientHeight, scroller.scrollHeight];
      view.style.left = `${(scroller.scrollTop / all) * 100}%`;
      view.style.width = `max(4px, ${(seen / all) * 100}%)`;
    }
    canvas.dispatchEvent(new Event("painted"));
  });

  /** Frame the cells that are hovered anywhere, of those that are seen. @param {CanvasRenderingContext2D} g @param {number} top */
  function paintLit(g, top) {
    const { hover } = model;
    const line = Math.max(1, Math.round(1.5 * ratio));
    if (hover?.place !== undefined) return frameCell(g, top, grid, cellOf(hover.place), colours.ink, line);
    const first = Math.floor(top / grid.size) * grid.columns;
    const last = Math.min(grid.cells, Math.ceil((top + canvas.height) / grid.size) * grid.columns);
    for (let cell = first; cell < last; cell++) if (model.isLit(grid.chunkOf(cell))) frameCell(g, top, grid, cell, colours.ink, line);
  }

  const paintOverview = oncePerFrame(() => {
    if (!overview.hidden) paintStrip(/** @type {CanvasRenderingContext2D} */ (strip.getContext("2d")), model, colours);
    tellWords();
  });

  /** What is not known is not shown as if it were. */
  function showTrouble() {
    const lost = model.columnsTrouble;
    trouble.hidden = !lost;
    element.classList.toggle("unknown", !!lost && !model.hasColumns);
    if (!lost) return;
    const since = model.hasColumns ? ["shown as it was at ", time(lost.since)] : ["which frames are done is not known now"];
    fill(trouble, h("i", { class: "mark", "aria-hidden": "true" }), h("span", {}, h("b", {}, "The store does not answer: "), ...since, h("span", { class: "soft" }, ` · ${lost.why}`)));
  }

  // ---- In words, for those who do not see it.

  function tellWords() {
    if (!details.open && document.activeElement !== canvas) {
      setText(words, model.status ? `${model.summary}.` : "");
      return;
    }
    const lines = CHUNK_STATES.map((name, state) => {
      const found = runsOf(model.state, state);
      return found.length ? h("span", { class: "line" }, `${CHUNK_WORDS[name]}: ${describeRuns(found)}`) : null;
    });
    fill(words, lines);
  }

  /** @param {Array<[number, number]>} runs of chunks */
  function describeRuns(runs) {
    const { layout } = model;
    const named = runs.map(([start, stop]) => /** @type {[number, number]} */ ([layout.numberAt(layout.placeOf(start)), layout.numberAt(layout.placeOf(stop - 1) + layout.countOf(stop - 1) - 1) + 1]));
    return `${layout.isExact ? "frames" : "chunks"} ${ranges(named, 12)}`;
  }

  details.addEventListener("toggle", tellWords);

  function tellSelection() {
    const place = model.selection?.place ?? 0;
    canvas.setAttribute("aria-valuenow", String(grid.cells ? cellOf(Math.min(place, model.layout.frames - 1)) : 0));
    canvas.setAttribute("aria-valuetext", model.selection ? describeChunk(model, model.selection.place, model.selection.chunk) : "nothing is selected");
  }

  // ---- Pointer and keys.

  /** The cell under the pointer; -1 beside all. @param {PointerEvent|MouseEvent} event */
  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) * ratio) / grid.size);
    const row = Math.floor(((event.clientY - box.top + scroller.scrollTop) * ratio) / grid.size);
    const cell = row * grid.columns + column;
    return column < 0 || column >= grid.columns || cell < 0 || cell >= grid.cells ? -1 : cell;
  }

  canvas.addEventListener("pointermove", (event) => {
    const cell = cellAt(event);
    if (cell < 0) return model.setHover(null);
    const place = placeOf(cell);
    model.setHover({ source: "map", place, chunk: grid.chunkOf(cell) });
    if (event.pointerType !== "touch") tip.show(event, tipOf(model, place, grid.chunkOf(cell), context));
  });
  canvas.addEventListener("pointerleave", () => (model.setHover(null), tip.hide()));
  canvas.addEventListener("click", (event) => {
    const cell = cellAt(event);
    if (cell >= 0) model.select(placeOf(cell));
  });
  scroller.addEventListener("scroll", () => (tip.hide(), paint()), { passive: true });
  scroller.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1 : -1, event.clientY - scroller.getBoundingClientRect().top);
    },
    { passive: false },
  );

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = model.selection ? cellOf(model.selection.place) : -1;
    const page = Math.max(1, Math.floor((scroller.clientHeight * ratio) / grid.size)) * grid.columns;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at < 0 ? 0 : at + grid.columns, ArrowUp: at - grid.columns, Home: 0, End: grid.cells - 1, PageDown: at + page, PageUp: at - page }[event.key];
    if (to !== undefined) {
      if (grid.cells) model.select(placeOf(Math.min(grid.cells - 1, Math.max(0, to))));
    } else if (event.key === "+" || event.key === "=") zoom(1);
    else if (event.key === "-") zoom(-1);
    else if (event.key === "0") ((chosenSize = 0), lay());
    else if (event.key === "Enter") document.getElementById("detail-title")?.focus();
    else if (event.key === "Escape" && model.selection) model.select(null);
    else return;
    event.preventDefault();
  });

  const goTo = (/** @type {PointerEvent} */ event) => {
    const box = overview.getBoundingClientRect();
    scroller.scrollTop = ((event.clientX - box.left) / box.width) * scroller.scrollHeight - scroller.clientHeight / 2;
  };
  overview.addEventListener("pointerdown", (event) => (overview.setPointerCapture(event.pointerId), goTo(event)));
  overview.addEventListener("pointermove", (event) => void (event.buttons && goTo(event)));

  function reveal() {
    if (!model.selection) return;
    const y = (Math.floor(cellOf(model.selection.place) / grid.columns) * grid.size) / ratio;
    const size = grid.size / ratio;
    if (y < scroller.scrollTop) scroller.scrollTop = y - 2 * size;
    else if (y + size > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y + 3 * size - scroller.clientHeight;
  }

  /** Select the next failed chunk. @param {1|-1} step */
  function nextFailed(step) {
    const start = model.selection?.chunk ?? (step > 0 ? -1 : model.state.length);
    for (let i = 1; i <= model.state.length; i++) {
      const chunk = (start + step * i + 2 * model.state.length) % model.state.length;
      if (model.state[chunk] === FAILED) return model.selectChunk(chunk);
    }
    context.announce("Nothing has failed");
  }

  context.keys([
    { keys: ["n"], label: "Next failed frame", group: "Frame map", run: () => nextFailed(1) },
    { keys: ["N"], label: "Failed frame before", group: "Frame map", run: () => nextFailed(-1) },
    { keys: ["m"], label: "Go to the map; arrows, Home and End walk, + and - zoom, 0 shows all", group: "Frame map", run: () => canvas.focus() },
  ]);

  model.on("layout", lay, signal);
  model.on("columns", () => (recolour(), showTrouble()), signal);
  model.on("status", () => (paint(), paintOverview()), signal);
  model.on("hover", paint, signal);
  model.on("select", () => (tellSelection(), reveal(), paint()), signal);
  document.addEventListener("themechange", recolour, { signal });
  const watcher = new ResizeObserver(oncePerFrame(lay));
  watcher.observe(scroller);
  signal.addEventListener("abort", () => (watcher.disconnect(), tip.remove()));
  fill(legend, colouring.legend(model));
  requestAnimationFrame(() => (lay(), reveal()));
  return element;
}

/** Ranges of chunks in a state, at most 13. @param {Uint8Array} states @param {number} state @returns {Array<[number, number]>} */
function runsOf(states, state) {
  /** @type {Array<[number, number]>} */
  const runs = [];
  for (let at = states.indexOf(state); at >= 0 && runs.length < 13; ) {
    let stop = at + 1;
    while (stop < states.length && states[stop] === state) stop++;
    runs.push([at, stop]);
    at = states.indexOf(state, stop);
  }
  return runs;
}

/** `frame 1412, failed, 3 tries, rdr-04` @param {JobModel} model @param {number} place @param {number} chunk */
function describeChunk(model, place, chunk) {
  const { layout, columns } = model;
  const name = layout.isExact ? `frame ${layout.numberAt(place)}` : `chunk ${chunk}`;
  const state = CHUNK_WORDS[CHUNK_STATES[model.state[chunk]]];
  const parts = [name, state];
  if (columns.tries[chunk] > 1) parts.push(`${columns.tries[chunk]} tries`);
  if (model.hostOf(chunk)) parts.push(model.hostOf(chunk));
  if (columns.seconds[chunk] > 0) parts.push(duration(columns.seconds[chunk]));
  return parts.join(", ");
}

/** What hovering tells. @param {JobModel} model @param {number} place @param {number} chunk @param {import("../app.js").Context} context */
function tipOf(model, place, chunk, context) {
  const { layout, columns } = model;
  const state = model.state[chunk];
  const running = model.running.get(chunk);
  const many = layout.isExact && layout.countOf(chunk) > 1;
  const title = layout.isExact ? `Frame ${layout.numberAt(place)}` : `Chunk ${chunk}`;
  const facts = [];
  if (many) facts.push(`of chunk ${count(chunk)}, ${layout.nameOf(chunk)}`);
  if (running && state === RUNNING && running.frames > 1) facts.push(`${running.frames_done} of ${running.frames} frames`);
  if (model.hostOf(chunk)) facts.push(model.hostOf(chunk));
  if (columns.seconds[chunk] > 0 && state === DONE) facts.push(duration(columns.seconds[chunk]));
  if (columns.memory[chunk] > 0) facts.push(bytes(columns.memory[chunk]));
  if (columns.tries[chunk] > 1) facts.push(`${columns.tries[chunk]} tries`);
  const picture = model.pictureOf(chunk, place);
  return [picture && h("img", { src: pictureAddress(context, picture), alt: "" }), h("b", {}, title), h("span", { class: "tip-state" }, h("i", { class: "cell", dataset: { look: CHUNK_STATES[state] } }), CHUNK_WORDS[CHUNK_STATES[state]]), facts.length > 0 && h("span", { class: "soft" }, facts.join(" · ")), running?.message && h("span", { class: "faint mono cut" }, running.message)];
}
