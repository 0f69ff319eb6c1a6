// Which frames the chunks of a job have: numbers as renderers count them, places in the film, chunks.

/** @typedef {{first: number, count: number, step: number, place: number, chunk: number}} Run frames with one step between */
/** @typedef {{first?: number, total?: number, perChunk?: number, firsts?: Int32Array, counts?: Int32Array}} ChunkFrames
 *   as columns tell: of chunks of equal length, or of each chunk */

/**
 * Frames of a job and the chunks they are cut into. A *place* is a frame's position in the film, from 0. Where frames
 * are not known, each chunk counts as one.
 */
export class FrameLayout {
  /** @param {{chunks: number, frames?: any, told?: ChunkFrames|null}} given `frames` of the job document, which knows steps */
  constructor({ chunks, frames = null, told = null }) {
    /** @type {number} */
    this.chunks = chunks;
    this.perChunk = 1;
    /** @type {Run[]} */
    this.runs = [];
    /** Whether each frame's chunk is known. */
    this.isExact = this.#cut(frames ? readRuns(frames) : [], frames?.per_chunk ?? 1) || (!!told && this.#cutAsTold(told));
    if (!this.isExact) this.#cut([{ first: 0, count: chunks, step: 1 }], 1);
    const last = this.runs[this.runs.length - 1];
    this.frames = last ? last.place + last.count : 0;
  }

  /** @param {Array<{first: number, count: number, step: number}>} runs @param {number} perChunk */
  #cut(runs, perChunk) {
    let place = 0;
    let chunk = 0;
    this.perChunk = Math.max(1, perChunk);
    this.runs = runs.map((run) => {
      const made = { ...run, place, chunk };
      place += run.count;
      chunk += Math.ceil(run.count / this.perChunk);
      return made;
    });
    return runs.length > 0 && chunk === this.chunks;
  }

  /** @param {ChunkFrames} told */
  #cutAsTold({ first = 0, total = 0, perChunk = 1, firsts, counts }) {
    if (!firsts || !counts) return this.#cut([{ first, count: total, step: 1 }], perChunk);
    // A run for each chunk: lists are written by people and programs, and have at most 100,000.
    let place = 0;
    this.perChunk = counts.reduce((most, count) => Math.max(most, count), 1);
    this.runs = Array.from(firsts, (first, chunk) => {
      const run = { first, count: counts[chunk], step: 1, place, chunk };
      place += run.count;
      return run;
    });
    return place > 0 && firsts.length === this.chunks;
  }

  /** The last run that begins at or before something. @param {"place"|"chunk"|"first"} key @param {number} value */
  #runAt(key, value) {
    const { runs } = this;
    let low = 0;
    let high = runs.length - 1; // 0 for most jobs
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (runs[middle][key] > value) high = middle - 1;
      else low = middle;
    }
    return runs[low];
  }

  /** @param {number} place */
  chunkAt(place) {
    const run = this.#runAt("place", place);
    return run.chunk + Math.floor((place - run.place) / this.perChunk);
  }

  /** Place of the first frame of a chunk. @param {number} chunk */
  placeOf(chunk) {
    const run = this.#runAt("chunk", chunk);
    return run.place + (chunk - run.chunk) * this.perChunk;
  }

  /** How many frames a chunk has. @param {number} chunk */
  countOf(chunk) {
    const run = this.#runAt("chunk", chunk);
    return Math.min(this.perChunk, run.count - (chunk - run.chunk) * this.perChunk);
  }

  /** Number of the frame at a place. @param {number} place */
  numberAt(place) {
    const run = this.#runAt("place", place);
    return run.first + (place - run.place) * run.step;
  }

  /** Place of a frame by its number; -1 where the job has no such frame. @param {number} number */
  placeOfNumber(number) {
    const run = this.#runAt("first", number);
    const steps = run ? (number - run.first) / run.step : -1;
    return Number.isInteger(steps) && steps >= 0 && steps < run.count ? run.place + steps : -1;
  }

  /** `frame 1412`, `frames 1412-1415`, `chunk 7`. @param {number} chunk */
  nameOf(chunk) {
    if (!this.isExact) return `chunk ${chunk}`;
    const first = this.placeOf(chunk);
    const count = this.countOf(chunk);
    const start = this.numberAt(first);
    return count === 1 ? `frame ${start}` : `frames ${start}-${this.numberAt(first + count - 1)}`;
  }

  /** Which numbers there are: `1001 to 2800`. */
  get extent() {
    if (!this.frames) return "";
    const [first, last] = [this.numberAt(0), this.numberAt(this.frames - 1)];
    const step = this.runs.length === 1 && this.runs[0].step > 1 ? ` by ${this.runs[0].step}` : "";
    return first === last ? `${first}` : `${first} to ${last}${step}`;
  }
}

/** @param {any} frames @returns {Array<{first: number, count: number, step: number}>} */
function readRuns(frames) {
  if (typeof frames === "string" || Array.isArray(frames)) frames = { range: [frames].flat().join(",") };
  if (!frames.range) return frames.count ? [{ first: frames.first ?? 0, count: frames.count, step: frames.step ?? 1 }] : [];
  /** @type {Array<{first: number, count: number, step: number}>} */
  const runs = [];
  for (const part of String(frames.range).split(",")) {
    const found = /^\s*(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?\s*$/.exec(part);
    if (!found) return [];
    const [first, last, step] = [Number(found[1]), Number(found[2] ?? found[1]), Number(found[3] ?? 1)];
    runs.push({ first, count: Math.floor((last - first) / step) + 1, step });
  }
  // Written out of order or twice, they are merged by the server: the columns tell the frames then.
  return runs.every((run, i) => i === 0 || run.first > runs[i - 1].first + (runs[i - 1].count - 1) * runs[i - 1].step) ? runs : [];
}
