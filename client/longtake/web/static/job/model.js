// What is known of the job, and what is selected and hovered: the panels of the page read it, and speak through it.

import { counted } from "../format.js";
import { hasEnded, isOlder } from "../jobfilter.js";
import { Columns, FAILED, FROZEN, RUNNING, TODO, WAITING, measure } from "./columns.js";
import { FrameLayout } from "./frames.js";

/** @typedef {import("../format.js").JobStatus} JobStatus */
/** @typedef {{place: number, chunk: number}} Selection */
/** @typedef {{source: string, place?: number, chunk?: number, ranges?: Array<[number, number]>, host?: string,
 *   test?: (chunk: number) => boolean}} Hover one chunk, some ranges of chunks, all of a host, or those that pass a test */

/** Events: `causes`, `document`, `pictures`, `status`, `columns` (also when running chunks change), `layout`, `select`, `hover`. */
export class JobModel extends EventTarget {
  /** @param {string} id */
  constructor(id) {
    super();
    this.id = id;
    /** @type {JobStatus} */
    this.status = /** @type {any} */ (null);
    /** @type {any} */
    this.document = null;
    /** Whether the document has come, or will not. */
    this.isDocumentAsked = false;
    this.layout = new FrameLayout({ chunks: 0 });
    this.columns = new Columns(null);
    this.hasColumns = false;
    /** Why the columns are not those of now, and since when. @type {{why: string, since: Date}|null} */
    this.columnsTrouble = null;
    /** States with the running chunks laid over. */
    this.state = new Uint8Array(0);
    /** @type {Map<number, any>} running chunks by their number */
    this.running = new Map();
    /** @type {Selection|null} */
    this.selection = null;
    /** @type {Hover|null} */
    this.hover = null;
    /** @type {import("./pictures.js").Picture[]} by frame */
    this.pictures = [];
    /** Why chunks have failed. @type {import("./failures.js").Cause[]} */
    this.causes = [];
  }

  /** @type {{seconds: import("./columns.js").Measure, memory: import("./columns.js").Measure}|null} */
  #measures = null;
  /** Chunks of which the status tells more than the columns, or has told it since these were counted. @type {Set<number>} */
  #overlay = new Set();

  /** @param {string} name */
  #tell(name) {
    this.dispatchEvent(new Event(name));
  }

  /** Listen to several events; called once at first. @param {string} names @param {() => void} fn @param {AbortSignal} signal */
  on(names, fn, signal) {
    for (const name of names.split(" ")) this.addEventListener(name, fn, { signal });
  }

  /** @param {any} document as it was submitted; null where nobody has it any more */
  setDocument(document) {
    this.document = document;
    this.isDocumentAsked = true;
    this.#lay();
    this.#tell("document");
  }

  /** @param {JobStatus} status */
  setStatus(status) {
    const before = this.status;
    this.status = status;
    this.running = new Map((status.running ?? []).map((/** @type {any} */ one) => [one.chunk, one]));
    if (before?.total_chunks !== status.total_chunks) this.#lay();
    this.#layOver();
    this.#tell("status");
  }

  /** Take up what a request was answered, unless something newer is known. @param {JobStatus} status */
  learn(status) {
    if (!isOlder(status, this.status)) this.setStatus(status);
  }

  /** @param {Columns} columns */
  setColumns(columns) {
    // A store that has no record of the job yet tells of no chunk.
    this.columns = columns.count ? columns : new Columns(null, this.status?.total_chunks ?? 0);
    this.hasColumns = true;
    this.columnsTrouble = null;
    this.#measures = null;
    this.#overlay.clear();
    this.state = this.columns.state.slice();
    this.#lay();
    this.#layOver();
    this.#tell("columns");
  }

  /** @param {import("./failures.js").Cause[]} causes */
  setCauses(causes) {
    this.causes = causes;
    this.#tell("causes");
  }

  /** @param {import("./pictures.js").Picture[]} pictures by frame */
  setPictures(pictures) {
    this.pictures = pictures;
    this.#tell("pictures");
  }

  /** The picture of a chunk that shows a place best; null where there is none. @param {number} chunk @param {number} place */
  pictureOf(chunk, place) {
    const number = this.layout.numberAt(place);
    let found = null;
    let low = 0;
    let high = this.pictures.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.pictures[middle].chunk < chunk) low = middle + 1;
      else high = middle;
    }
    for (let i = low; i < this.pictures.length && this.pictures[i].chunk === chunk; i++) if (!found || this.pictures[i].frame <= number) found = this.pictures[i];
    return found;
  }

  /** Why a chunk has failed; the last cause it has met. @param {number} chunk */
  causeOf(chunk) {
    return this.causes.find(({ chunks }) => chunks.some(([start, stop]) => chunk >= start && chunk < stop)) ?? null;
  }

  /** @param {string} why they cannot be read */
  loseColumns(why) {
    this.columnsTrouble = { why, since: this.columnsTrouble?.since ?? new Date() };
    this.#tell("columns");
  }

  #lay() {
    const chunks = this.hasColumns ? this.columns.count : this.status?.total_chunks ?? 0;
    if (this.state.length !== chunks) this.state = new Uint8Array(chunks);
    const layout = new FrameLayout({ chunks, frames: this.document?.frames, told: this.columns.frames });
    if (layout.chunks === this.layout.chunks && layout.isExact === this.layout.isExact && layout.frames === this.layout.frames && layout.extent === this.layout.extent) return;
    this.layout = layout;
    this.#tell("layout");
  }

  /** Lay over the columns what the status tells of single chunks: it is younger. */
  #layOver() {
    const { running, state } = this;
    const failed = new Set((this.status?.failures ?? []).map((/** @type {any} */ one) => one.chunk));
    const ended = hasEnded(this.status);
    for (const chunk of this.#overlay) {
      if (running.has(chunk) || failed.has(chunk)) continue;
      // One that rendered and is gone has ended: how, the columns will tell.
      if (ended || state[chunk] !== RUNNING) state[chunk] = this.columns.state[chunk] ?? TODO;
      if (state[chunk] !== RUNNING) this.#overlay.delete(chunk);
    }
    for (const chunk of failed) this.#mark(chunk, FAILED);
    for (const [chunk, one] of running) this.#mark(chunk, one.frozen ? FROZEN : one.waiting ? WAITING : RUNNING);
  }

  /** @param {number} chunk @param {number} state */
  #mark(chunk, state) {
    if (chunk >= this.state.length) return;
    this.state[chunk] = state;
    this.#overlay.add(chunk);
  }

  /** Times of frames, or of chunks where their frames are not known. */
  get measures() {
    return (this.#measures ??= {
      seconds: measure(this.columns.seconds, this.layout.perChunk > 1 ? (chunk) => this.layout.countOf(chunk) : undefined),
      memory: measure(this.columns.memory),
    });
  }

  /** What one measures a time of. */
  get unit() {
    return this.layout.isExact ? "frame" : "chunk";
  }

  /** Where a chunk renders or has rendered. @param {number} chunk */
  hostOf(chunk) {
    return this.running.get(chunk)?.host || this.columns.hosts[this.columns.host[chunk] - 1] || "";
  }

  /** Seconds of a frame of a chunk. @param {number} chunk */
  secondsOf(chunk) {
    return this.columns.seconds[chunk] / (this.layout.perChunk > 1 ? this.layout.countOf(chunk) : 1);
  }

  /** Select a frame by its place, or nothing. @param {number|null} place */
  select(place) {
    if (place !== null && (place < 0 || place >= this.layout.frames)) return;
    if (place === (this.selection?.place ?? null)) return;
    this.selection = place === null ? null : { place, chunk: this.layout.chunkAt(place) };
    this.#tell("select");
  }

  /** @param {number} chunk */
  selectChunk(chunk) {
    this.select(this.layout.placeOf(chunk));
  }

  /** @param {Hover|null} hover */
  setHover(hover) {
    if (sameHover(hover, this.hover)) return;
    this.hover = hover;
    this.#tell("hover");
  }

  /** Whether what is hovered concerns a chunk. @param {number} chunk */
  isLit(chunk) {
    const hover = this.hover;
    if (!hover) return false;
    if (hover.chunk !== undefined) return hover.chunk === chunk;
    if (hover.host !== undefined) return this.hostOf(chunk) === hover.host;
    if (hover.test) return hover.test(chunk);
    return hover.ranges?.some(([start, stop]) => chunk >= start && chunk < stop) ?? false;
  }

  /** Another one whenever a chunk has been published: those of a span are counted when all of it is done. */
  get published() {
    const { completed_chunks: done, completed_frames: frames } = this.status;
    return [done, frames, ...[...this.running.values()].map((one) => one.span_frames).filter(Boolean)].join("+");
  }

  /** `7 failed`, for those who do not see the map. */
  get summary() {
    const status = this.status;
    const parts = [`${counted(status.completed_chunks, "chunk")} of ${status.total_chunks} done`];
    if (status.running_chunks) parts.push(`${status.running_chunks} rendering`);
    if (status.frozen_chunks) parts.push(`${status.frozen_chunks} frozen`);
    if (status.failed_chunks) parts.push(`${status.failed_chunks} failed`);
    if (status.left_out_chunks) parts.push(`${status.left_out_chunks} left out`);
    return parts.join(", ");
  }
}

/** @param {Hover|null} a @param {Hover|null} b */
function sameHover(a, b) {
  return a === b || (a !== null && b !== null && a.source === b.source && a.place === b.place && a.chunk === b.chunk && a.host === b.host && a.ranges === b.ranges && a.test === b.test);
}
