// Draw cells of the frame map. All lengths are pixels of the device, so that edges of cells are sharp.

import { FAILED, FROZEN, LEFT_OUT, RUNNING, WAITING } from "./columns.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("./colouring.js").Colouring} Colouring */
/** @typedef {import("./colouring.js").Colours} Colours */
/** @typedef {{size: number, columns: number, cells: number, chunkOf: (cell: number) => number, isFrame: boolean}} Grid
 *   `size` of a cell; `isFrame`: cells are frames and not chunks */

// Smaller cells have no room for a gap, or for a shape.
const SMALLEST_WITH_GAP = 4;
const SMALLEST_WITH_SHAPE = 5;

const scratch = document.createElement("canvas");

/**
 * Draw the rows of a map that are seen.
 * @param {CanvasRenderingContext2D} g @param {number} top what is scrolled away above
 * @param {Grid} grid @param {Colouring} colouring @param {Colours} colours @param {JobModel} model
 */
export function paintCells(g, top, grid, colouring, colours, model) {
  const { width, height } = g.canvas;
  const { size, columns, cells, chunkOf } = grid;
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.clearRect(0, 0, width, height);
  const firstRow = Math.max(0, Math.floor(top / size));
  const lastRow = Math.min(Math.ceil(cells / columns), Math.ceil((top + height) / size));
  const rows = lastRow - firstRow;
  if (rows <= 0) return;
  const first = firstRow * columns;
  const last = Math.min(cells, lastRow * columns);
  g.translate(0, firstRow * size - top);

  // One pixel a cell, then enlarged as a whole: that costs the same for any colours.
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const { palette, codeOf } = colouring;
  const shaped = [];
  for (let cell = first; cell < last; cell++) {
    const chunk = chunkOf(cell);
    pixels[cell - first] = palette[codeOf(chunk)];
    const state = model.state[chunk];
    if (SHAPED[state]) shaped.push(cell);
  }
  if (scratch.width < columns || scratch.height < rows) {
    scratch.width = Math.max(scratch.width, columns);
    scratch.height = Math.max(scratch.height, rows);
  }
  /** @type {CanvasRenderingContext2D} */ (scratch.getContext("2d")).putImageData(image, 0, 0);
  g.imageSmoothingEnabled = false;
  g.drawImage(scratch, 0, 0, columns, rows, 0, 0, columns * size, rows * size);

  if (size < SMALLEST_WITH_SHAPE) paintDots(g, shaped, first, grid, colours, model);
  else paintShapes(g, shaped, first, grid, colours, model, colouring.shapes);
  if (size >= SMALLEST_WITH_GAP) paintGaps(g, rows, grid, colours);
}

const SHAPED = Uint8Array.from({ length: 8 }, (_, state) => Number([RUNNING, WAITING, FROZEN, FAILED, LEFT_OUT].includes(state)));

/**
 * Draw the shapes of states over their cells: neighbours of one state at once, with a pattern of a cell's size.
 * @param {CanvasRenderingContext2D} g @param {number[]} shaped @param {number} first @param {Grid} grid
 * @param {Colours} colours @param {JobModel} model @param {boolean} all else of failed cells alone
 */
function paintShapes(g, shaped, first, grid, colours, model, all) {
  const { size, columns, chunkOf } = grid;
  /** @type {Record<number, CanvasPattern|null>} */
  const patterns = {};
  for (let i = 0; i < shaped.length; i++) {
    const start = shaped[i];
    const chunk = chunkOf(start);
    const state = model.state[chunk];
    if (!all && state !== FAILED) continue;
    const x = ((start - first) % columns) * size;
    const y = Math.floor((start - first) / columns) * size;
    if (state === RUNNING) {
      paintRunning(g, x, y, start, chunk, grid, colours, model);
      continue;
    }
    let length = 1;
    while (i + 1 < shaped.length && shaped[i + 1] === start + length && x + length * size < columns * size && model.state[chunkOf(shaped[i + 1])] === state) {
      length++;
      i++;
    }
    patterns[state] ??= g.createPattern(shapeOf(state, size, colours), "repeat");
    g.fillStyle = /** @type {CanvasPattern} */ (patterns[state]);
    g.fillRect(x, y, length * size, size);
  }
}

/**
 * Cells that are too small to be seen alone: those that failed are drawn larger than they are.
 * @param {CanvasRenderingContext2D} g @param {number[]} shaped @param {number} first @param {Grid} grid
 * @param {Colours} colours @param {JobModel} model
 */
function paintDots(g, shaped, first, { size, columns, chunkOf }, colours, model) {
  const dot = Math.max(size, SMALLEST_WITH_SHAPE);
  const inset = Math.floor((dot - size) / 2);
  g.fillStyle = colours.fail;
  for (const cell of shaped) {
    if (model.state[chunkOf(cell)] !== FAILED) continue;
    g.fillRect(((cell - first) % columns) * size - inset, Math.floor((cell - first) / columns) * size - inset, dot, dot);
  }
}

/**
 * A cell that renders fills from below; of a chunk whose frames are cells, those that are rendered are full.
 * @param {CanvasRenderingContext2D} g @param {number} x @param {number} y @param {number} cell @param {number} chunk
 * @param {Grid} grid @param {Colours} colours @param {JobModel} model
 */
function paintRunning(g, x, y, cell, chunk, { size, isFrame }, colours, model) {
  const running = model.running.get(chunk);
  let share = running && running.frames > 0 ? Math.min(1, running.frames_done / running.frames) : 0;
  if (isFrame && running && running.frames > 1) share = cell - model.layout.placeOf(chunk) < running.frames_done ? 1 : 0;
  const empty = Math.round(size * (1 - share) * 0.7);
  if (!empty) return;
  g.globalAlpha = 0.5;
  g.fillStyle = colours.panel;
  g.fillRect(x, y, size, empty);
  g.globalAlpha = 1;
}

/** @param {number} state @param {number} size @param {Colours} colours */
function shapeOf(state, size, colours) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const g = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  const inner = size - 1;
  const line = Math.max(1, Math.round(size / 9));
  const frame = (/** @type {string} */ colour) => {
    g.strokeStyle = colour;
    g.lineWidth = line;
    g.strokeRect(line / 2, line / 2, inner - line, inner - line);
  };
  g.fillStyle = colours.panel;
  g.fillRect(0, 0, size, size);
  if (state === FAILED) {
    frame(colours.fail);
    g.beginPath();
    g.moveTo(0, inner);
    g.lineTo(inner, 0);
    g.lineWidth = Math.max(1.2, size / 7);
    g.stroke();
  } else if (state === WAITING) {
    g.fillStyle = colours.todo;
    g.fillRect(0, 0, inner, inner);
    frame(colours.run);
  } else if (state === FROZEN) {
    g.fillStyle = colours.ice;
    const bar = Math.max(1, Math.round(inner / 3));
    g.fillRect(0, 0, bar, inner);
    g.fillRect(inner - bar, 0, bar, inner);
    if (size >= 10) frame(colours.ice);
  } else if (state === LEFT_OUT) {
    g.fillStyle = colours.skip;
    g.beginPath();
    g.moveTo(0, 0);
    g.lineTo(inner, 0);
    g.lineTo(0, inner);
    g.fill();
  }
  return tile;
}

/** @param {CanvasRenderingContext2D} g @param {number} rows @param {Grid} grid @param {Colours} colours */
function paintGaps(g, rows, { size, columns }, colours) {
  g.fillStyle = colours.panel;
  const gap = size >= 24 ? 2 : 1;
  for (let row = 0; row < rows; row++) g.fillRect(0, (row + 1) * size - gap, columns * size, gap);
  for (let column = 0; column < columns; column++) g.fillRect((column + 1) * size - gap, 0, gap, rows * size);
}

/**
 * Frame some cells: those that are hovered or selected.
 * @param {CanvasRenderingContext2D} g @param {number} top @param {Grid} grid @param {number} cell @param {string} colour @param {number} line
 */
export function frameCell(g, top, { size, columns }, cell, colour, line) {
  const x = (cell % columns) * size;
  const y = Math.floor(cell / columns) * size - top;
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.strokeStyle = colour;
  g.lineWidth = line;
  // At an edge of the canvas the frame lies within the cell.
  const [left, above] = [Math.max(line / 2, x - line / 2), Math.max(line / 2 - (y < 0 ? size : 0), y - line / 2)];
  g.strokeRect(left, above, x + size - 1 + line / 2 - left, y + size - 1 + line / 2 - above);
}

/**
 * Draw the whole job as one strip: each column of pixels tells the states of its chunks by their shares, failures first.
 * @param {CanvasRenderingContext2D} g @param {JobModel} model @param {Colours} colours
 */
export function paintStrip(g, model, colours) {
  const { width, height } = g.canvas;
  const chunks = model.state.length;
  const shares = new Uint32Array(7);
  g.setTransform(1, 0, 0, 1, 0, 0);
  g.clearRect(0, 0, width, height);
  for (let x = 0; x < width; x++) {
    shares.fill(0);
    const start = Math.floor((x / width) * chunks);
    const stop = Math.max(start + 1, Math.floor(((x + 1) / width) * chunks));
    for (let chunk = start; chunk < stop; chunk++) shares[model.state[chunk]]++;
    const total = stop - start;
    let y = height;
    for (const state of STRIP_ORDER) {
      if (!shares[state]) continue;
      // One failure among thousands is seen.
      const part = Math.max(state === FAILED || state === RUNNING ? 3 : 0, (shares[state] / total) * height);
      g.fillStyle = colours.states[state];
      g.fillRect(x, y - part, 1, part);
      y -= part;
    }
    if (shares[FAILED]) {
      g.fillStyle = colours.fail;
      g.fillRect(x, 0, 1, Math.max(4, height / 3));
    }
  }
}
const STRIP_ORDER = [4, RUNNING, FROZEN, WAITING, FAILED, LEFT_OUT, 0];
