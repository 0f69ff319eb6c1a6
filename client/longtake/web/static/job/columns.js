// What became of each chunk, in columns as the server sends them: a million chunks without an object for each.

/** Numbers of the states, in the order of ChunkState. */
export const TODO = 0, RUNNING = 1, WAITING = 2, FROZEN = 3, DONE = 4, FAILED = 5, LEFT_OUT = 6;

/** @param {string} text base64 */
function decode(text) {
  if (!text) return new Uint8Array(0);
  const native = /** @type {any} */ (Uint8Array).fromBase64;
  if (native) return /** @type {Uint8Array} */ (native.call(Uint8Array, text));
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * A column of numbers; zeros where the server sent none or one of another length.
 * @template {Uint8Array|Uint16Array|Int32Array|Float32Array|Float64Array} T
 * @param {{new (buffer: ArrayBuffer): T, new (length: number): T, BYTES_PER_ELEMENT: number}} Kind
 * @param {string} text @param {number} count @returns {T}
 */
function column(Kind, text, count) {
  const bytes = decode(text);
  if (bytes.byteLength !== count * Kind.BYTES_PER_ELEMENT) return new Kind(count);
  return new Kind(/** @type {ArrayBuffer} */ (bytes.buffer));
}

/** Columns of the chunks of a job. */
export class Columns {
  /** @param {any} sent ChunkColumns of the API; null before they are there @param {number} count */
  constructor(sent, count = sent?.count ?? 0) {
    this.count = count;
    /** @type {string[]} */
    this.hosts = sent?.hosts ?? [];
    this.state = column(Uint8Array, sent?.state, count);
    this.host = column(Uint16Array, sent?.host, count);
    this.seconds = column(Float32Array, sent?.seconds, count);
    this.memory = column(Float32Array, sent?.memory, count);
    this.ended = column(Float64Array, sent?.ended, count);
    this.tries = column(Uint8Array, sent?.tries, count);
    /** Finished chunks of which no more is known yet than that. */
    this.unread = sent?.unread ?? 0;
    const isContiguous = !sent?.first_frames || sent.first_frames === "contiguous";
    /** What of frames the columns tell. @type {import("./frames.js").ChunkFrames|null} */
    this.frames = !sent ? null : isContiguous
      ? { first: sent.first_frame ?? 0, total: sent.total_frames || count * (sent.frames_per_chunk || 1), perChunk: sent.frames_per_chunk || 1 }
      : { firsts: column(Int32Array, sent.first_frames, count), counts: column(Int32Array, sent.frame_counts, count) };
    // What ran when they were counted is told by the status, which is younger.
    for (let i = 0; i < count; i++) if (this.state[i] >= RUNNING && this.state[i] <= FROZEN) this.state[i] = TODO;
  }
}

/**
 * What measurements of the chunks that are done come to.
 * @param {Float32Array} values @param {(index: number) => number} scale what a value is divided by
 */
export function measure(values, scale = () => 1) {
  let found = 0;
  for (let i = 0; i < values.length; i++) if (values[i] > 0) found++;
  const sorted = new Float32Array(found);
  for (let i = 0, at = 0; i < values.length; i++) if (values[i] > 0) sorted[at++] = values[i] / scale(i);
  sorted.sort();
  const at = (/** @type {number} */ share) => (found ? sorted[Math.min(found - 1, Math.floor(share * found))] : 0);
  return { count: found, sorted, least: at(0), p50: at(0.5), p95: at(0.95), p99: at(0.99), most: found ? sorted[found - 1] : 0 };
}
/** @typedef {ReturnType<typeof measure>} Measure */
