// Words and numbers as the page writes them, and the pills that tell a state by colour and shape.

import { h } from "./dom.js";

const COUNT = new Intl.NumberFormat("en-US");

/** `1,226` @param {number} value */
export const count = (value) => COUNT.format(value);

/** `1 frame`, `1,226 frames` @param {number} value @param {string} noun @param {string} [plural] */
export const counted = (value, noun, plural = `${noun}s`) => `${count(value)} ${value === 1 ? noun : plural}`;

/** `68.1 %`; never 100 before the end. @param {number} value of 100 */
export const percent = (value) => (value >= 100 || value === 0 ? `${value} %` : `${value.toFixed(1)} %`);

/** `20 ms`, `0.8 s`, `45 s`, `6 min 12 s`, `2 h 14 min`, `3 d 4 h`; `–` where unknown. @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds > 0 && seconds < 0.0995) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds > 0 && seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 10) return whole % 60 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  const rounded = Math.round(whole / 60);
  if (rounded < 60) return `${rounded} min`;
  if (rounded < 48 * 60) return rounded % 60 ? `${Math.floor(rounded / 60)} h ${rounded % 60} min` : `${rounded / 60} h`;
  const hours = Math.round(whole / 3600);
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

/** `812 MiB`, `1.2 GiB`, as `longtake` writes them. @param {number|null|undefined} bytes */
export function bytes(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let amount = bytes;
  let unit = "B";
  for (const larger of ["KiB", "MiB", "GiB", "TiB"]) {
    if (amount < 999.5) break;
    amount /= 1024;
    unit = larger;
  }
  return amount >= 9.95 || unit === "B" ? `${amount.toFixed(0)} ${unit}` : `${amount.toFixed(1)} ${unit}`;
}

/** @param {string|number|Date} when ISO text, or seconds since 1970 */
export const asDate = (when) => (when instanceof Date ? when : new Date(typeof when === "number" ? when * 1000 : when));

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const FULL = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });
const ZONE = new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" });

/** `22:05` today, `28 Nov 22:05` in this year, `28 Nov 2025` before. @param {string|number|Date} when @param {Date} [now] */
export function clock(when, now = new Date()) {
  const date = asDate(when);
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  if (date.getFullYear() === now.getFullYear()) return `${DAY.format(date)} ${CLOCK.format(date)}`;
  return `${DAY.format(date)} ${date.getFullYear()}`;
}

/** `2026-11-28 22:05:09 Europe/Berlin (GMT+01:00)` @param {string|number|Date} when */
export function fullTime(when) {
  const date = asDate(when);
  const offset = ZONE.formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
  return `${FULL.format(date)} ${Intl.DateTimeFormat().resolvedOptions().timeZone} (${offset})`;
}

/** A `<time>` that shows the zone on hover. @param {string|number|Date|null|undefined} when @param {string} [text] */
export function time(when, text) {
  if (when === null || when === undefined) return h("span", { class: "faint" }, "–");
  return h("time", { dateTime: asDate(when).toISOString(), title: fullTime(when) }, text ?? clock(when));
}

/** `3 min ago`, `now` @param {string|number|Date} when @param {Date} [now] */
export function ago(when, now = new Date()) {
  const seconds = Math.round((now.getTime() - asDate(when).getTime()) / 1000);
  if (seconds < 2) return "now";
  return seconds < 60 ? `${seconds} s ago` : `${duration(seconds)} ago`;
}

/**
 * `0-9, 14` out of half-open ranges, both ends included as on the command line.
 * @param {Array<[number, number]>} ranges @param {number} [most]
 */
export function ranges(ranges, most = 5) {
  const text = ranges.slice(0, most).map(([start, stop]) => (stop - start === 1 ? `${start}` : `${start}-${stop - 1}`));
  return text.join(", ") + (ranges.length > most ? " …" : "");
}

/** @typedef {"pending"|"running"|"paused"|"holding"|"completed"|"failed"|"cancelled"} Look how a job's state looks */
/** @typedef {Record<string, any>} JobStatus as the API sends it */

/**
 * Seconds until a job is done, of what is measured: as it says itself, or else out of what a chunk takes and how many
 * run at once. Null where nothing is known, and where nothing runs.
 * @param {JobStatus} status
 * @returns {number | null}
 */
export function secondsToGo(status) {
  if (status.state !== "running") return null;
  if (typeof status.eta_seconds === "number") return status.eta_seconds;
  const each = status.metrics?.chunk_seconds;
  if (!each || !status.running_chunks) return null;
  const left = status.total_chunks - status.completed_chunks - status.failed_chunks - status.left_out_chunks;
  return (left * each) / status.running_chunks;
}

/** Which pill a job has. @param {JobStatus} status @returns {Look} */
export const jobLook = (status) => (status.phase === "holding" && status.state !== "failed" ? "holding" : status.state);

/** `running`, `paused, frozen`, `pausing`, `holding`, `joining the film`. @param {JobStatus} status */
export function jobWords(status) {
  const phase = status.phase;
  if (["completed", "failed", "cancelled"].includes(status.state)) return status.state;
  if (phase === "holding") return "holding";
  if (status.state === "paused") return status.frozen_chunks ? "paused, frozen" : "paused";
  if (phase === "pausing") return "pausing";
  if (phase === "stitching") return "stitching";
  if (phase === "cleaning_up") return "ending";
  if (status.state === "running" && phase === "planning") return "planning";
  return status.state;
}

/** What keeps a job from going on, or went wrong; null where all is well. @param {JobStatus} status */
export const jobTrouble = (status) => status.waiting_for || status.error || null;

/** @param {string} look a job's look or a chunk's state @param {string} words @param {Record<string, any>} [properties] */
export function pill(look, words, properties = {}) {
  return h("span", { ...properties, class: "pill", dataset: { look } }, h("i", { "aria-hidden": "true" }), words);
}

/** The pill of a job. @param {JobStatus} status */
export const jobPill = (status) => pill(jobLook(status), jobWords(status), { title: jobTrouble(status) });

/** States of chunks in the order of ChunkState, with the words of the legend. */
export const CHUNK_STATES = /** @type {const} */ (["todo", "running", "waiting", "frozen", "done", "failed", "left_out"]);
export const CHUNK_WORDS = {
  todo: "to do",
  running: "rendering",
  waiting: "next try waits",
  frozen: "frozen",
  done: "done, proven",
  failed: "failed",
  left_out: "left out",
};

/** A little cell in the colour and shape of a chunk's state, for legends. @param {string} state */
export const cell = (state) => h("i", { class: "cell", dataset: { look: state }, "aria-hidden": "true" });

/**
 * The parts of a job's bar, of 1: done, running (or frozen), failed. Frames of running chunks count as running.
 * @param {JobStatus} status
 */
export function barParts(status) {
  const chunks = status.total_chunks || 1;
  const frames = status.total_frames || 0;
  const ended = status.state === "completed";
  const done = ended ? 1 : frames ? status.completed_frames / frames : status.completed_chunks / chunks;
  const failed = Math.min(1 - done, status.failed_chunks / chunks);
  let rendered = 0;
  for (const chunk of status.running ?? []) if (!chunk.waiting) rendered += chunk.span_frames + chunk.frames_done;
  const active = Math.max(frames ? rendered / frames : 0, (status.running_chunks + status.frozen_chunks) / chunks / 20);
  const running = ended ? 0 : Math.min(1 - done - failed, active);
  return { done, running, failed, frozen: status.frozen_chunks > 0 && (status.state === "paused" || !status.running_chunks) };
}

/** A progress bar with parts done, running and failed. @param {JobStatus} [status] */
export function progressBar(status) {
  const bar = h("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" });
  bar.append(h("span", { class: "done" }), h("span", { class: "run" }), h("span", { class: "fail" }));
  if (status) updateBar(bar, status);
  return bar;
}

/** Show another status in a bar of `progressBar`. @param {HTMLElement} bar @param {JobStatus} status */
export function updateBar(bar, status) {
  const parts = barParts(status);
  const [done, running, failed] = /** @type {HTMLElement[]} */ ([...bar.children]);
  // Failures, and that something is done, are seen from three metres, however little of the film it is.
  done.style.width = `${parts.done * 100}%`;
  running.style.width = parts.running ? `max(4px, ${parts.running * 100}%)` : "0";
  failed.style.width = status.failed_chunks ? `max(4px, ${parts.failed * 100}%)` : "0";
  running.classList.toggle("ice", parts.frozen);
  bar.dataset.look = jobLook(status);
  bar.setAttribute("aria-valuenow", String(Math.round(status.progress)));
  const words = [percent(status.progress)];
  if (status.running_chunks) words.push(`${status.running_chunks} running`);
  if (status.failed_chunks) words.push(`${status.failed_chunks} failed`);
  bar.setAttribute("aria-label", `Progress of ${status.name || status.id}`);
  bar.setAttribute("aria-valuetext", words.join(", "));
}
