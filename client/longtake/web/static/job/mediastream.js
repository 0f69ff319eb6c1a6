// Play a growing HLS playlist of fragmented MP4 through Media Source Extensions.

const LOOK_EVERY_MS = 2000;
// How far ahead of what plays is loaded, and how much behind it is kept.
const AHEAD_SECONDS = 30;
const BEHIND_SECONDS = 60;

/** @typedef {{uri: string, seconds: number, map: string, at: number}} Segment `at`: seconds from the beginning */

/**
 * Segments of a media playlist, and whether it has ended.
 * @param {string} text @param {string} base address of the playlist
 */
function parsePlaylist(text, base) {
  /** @type {Segment[]} */
  const segments = [];
  let [map, seconds, at] = ["", 0, 0];
  for (const line of text.split(/\r?\n/)) {
    if (line.startsWith("#EXT-X-MAP:")) map = new URL(/URI="([^"]+)"/.exec(line)?.[1] ?? "", base).href;
    else if (line.startsWith("#EXTINF:")) seconds = parseFloat(line.slice(8));
    else if (line && !line.startsWith("#")) {
      segments.push({ uri: new URL(line, base).href, seconds, map, at });
      at += seconds;
    }
  }
  return { segments, hasEnded: /^#EXT-X-ENDLIST/m.test(text) };
}

/** Codecs of an init segment, as `isTypeSupported` takes them; of boxes that browsers know. @param {Uint8Array} init */
function findCodecs(init) {
  const text = new TextDecoder("latin1").decode(init);
  const hex = (/** @type {number} */ byte) => byte.toString(16).padStart(2, "0");
  const codecs = [];
  const avc = text.indexOf("avcC");
  if (avc > 0) codecs.push(`avc1.${hex(init[avc + 5])}${hex(init[avc + 6])}${hex(init[avc + 7])}`);
  const hevc = text.indexOf("hvcC");
  if (hevc > 0) codecs.push(`hvc1.${init[hevc + 5] & 31}.4.L${init[hevc + 16]}.B0`);
  const vp9 = text.indexOf("vpcC");
  if (vp9 > 0) codecs.push(`vp09.${String(init[vp9 + 8]).padStart(2, "0")}.${init[vp9 + 9]}.${String(init[vp9 + 10] >> 4).padStart(2, "0")}`);
  const av1 = text.indexOf("av1C");
  if (av1 > 0) codecs.push(`av01.${init[av1 + 5] >> 5}.${String(init[av1 + 5] & 31).padStart(2, "0")}M.${init[av1 + 6] & 0x40 ? "10" : "08"}`);
  if (text.includes("mp4a")) codecs.push("mp4a.40.2");
  if (text.includes("Opus")) codecs.push("opus");
  if (text.includes("fLaC")) codecs.push("flac");
  return codecs.join(", ");
}

/** Events: `unplayable`, with `trouble`. */
export class MediaStream extends EventTarget {
  static isSupported = typeof MediaSource !== "undefined";
  trouble = "";

  /** @param {HTMLVideoElement} video @param {string} address of the playlist @param {AbortSignal} signal */
  constructor(video, address, signal) {
    super();
    this.video = video;
    this.address = new URL(address, location.href).href;
    this.signal = signal;
    this.source = new MediaSource();
    /** @type {SourceBuffer|null} */
    this.buffer = null;
    this.map = "";
    /** @type {Set<number>} numbers of segments that are loaded */
    this.loaded = new Set();
  }

  async run() {
    const url = URL.createObjectURL(this.source);
    this.video.src = url;
    try {
      await Promise.race([once(this.source, "sourceopen", this.signal), once(this.video, "error", this.signal)]);
      if (this.video.error) throw new Error(this.video.error.message);
      URL.revokeObjectURL(url);
      for (;;) {
        const answer = await this.#fetch(this.address);
        // It may lie elsewhere: the list of the chunks from the first that is finished.
        this.address = answer.url;
        const { segments, hasEnded } = parsePlaylist(await answer.text(), this.address);
        const isAll = await this.#load(segments);
        if (isAll && hasEnded && this.source.readyState === "open") this.source.endOfStream();
        await Promise.race([once(this.video, "timeupdate", this.signal), once(this.video, "seeking", this.signal), wait(LOOK_EVERY_MS)]);
        if (hasEnded) await wait(250);
        if (this.signal.aborted) return;
      }
    } catch (error) {
      if (this.signal.aborted) return;
      this.trouble = error instanceof Error ? error.message : String(error);
      this.dispatchEvent(new Event("unplayable"));
    }
  }

  /** @param {string} address */
  async #fetch(address) {
    const answer = await fetch(address, { signal: this.signal, credentials: "same-origin" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer;
  }

  /** Load what is wanted now; true where nothing is missing. @param {Segment[]} segments */
  async #load(segments) {
    const { video } = this;
    const last = segments[segments.length - 1];
    if (last && this.source.readyState === "open") this.source.duration = Math.max(last.at + last.seconds, this.source.duration || 0);
    let isAll = true;
    for (const [number, segment] of segments.entries()) {
      if (this.loaded.has(number)) continue;
      isAll = false;
      const now = video.currentTime;
      if (segment.at + segment.seconds < now - 1 || segment.at > now + AHEAD_SECONDS) continue;
      if (segment.map !== this.map) await this.#begin(segment);
      const data = await (await this.#fetch(segment.uri)).arrayBuffer();
      await this.#append(data);
      this.loaded.add(number);
    }
    await this.#forget(segments);
    return isAll;
  }

  /** @param {Segment} segment the first with another init segment */
  async #begin(segment) {
    const init = new Uint8Array(await (await this.#fetch(segment.map)).arrayBuffer());
    const type = `video/mp4; codecs="${findCodecs(init)}"`;
    if (!MediaSource.isTypeSupported(type)) throw new Error(`this browser does not play ${findCodecs(init) || "it"}`);
    if (!this.buffer) this.buffer = this.source.addSourceBuffer(type);
    else this.buffer.changeType(type);
    await this.#append(init);
    this.map = segment.map;
  }

  /** @param {ArrayBuffer|Uint8Array} data */
  async #append(data) {
    const buffer = /** @type {SourceBuffer} */ (this.buffer);
    if (this.source.readyState !== "open") return;
    buffer.appendBuffer(/** @type {any} */ (data));
    await once(buffer, "updateend", this.signal);
    if (this.video.error) throw new Error(this.video.error.message);
  }

  /** @param {Segment[]} segments */
  async #forget(segments) {
    const end = this.video.currentTime - BEHIND_SECONDS;
    if (!this.buffer || end <= 0 || !this.buffer.buffered.length || this.buffer.buffered.start(0) >= end || this.source.readyState !== "open") return;
    this.buffer.remove(0, end);
    await once(this.buffer, "updateend", this.signal);
    for (const [number, segment] of segments.entries()) if (segment.at < end) this.loaded.delete(number);
  }
}

/** @param {number} ms */
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {EventTarget} target @param {string} name @param {AbortSignal} signal */
function once(target, name, signal) {
  return new Promise((resolve) => {
    const done = () => {
      target.removeEventListener(name, done);
      signal.removeEventListener("abort", done);
      resolve(undefined);
    };
    target.addEventListener(name, done);
    signal.addEventListener("abort", done);
  });
}
