// Which jobs a filter names, and in which order a list shows them. Pure: no element is touched.

import { jobTrouble, secondsToGo } from "./format.js";

/** @typedef {import("./format.js").JobStatus} JobStatus */

const ENDED = ["completed", "failed", "cancelled"];

/** @param {JobStatus} job */
export const hasEnded = (job) => ENDED.includes(job.state);
/** Whether a status is older than another: what a request is answered may come after an event that tells more. @param {JobStatus} job @param {JobStatus | undefined} known */
export const isOlder = (job, known) => Boolean(known?.updated_at && job.updated_at && Date.parse(job.updated_at) < Date.parse(known.updated_at));
/** Whether somebody should look at a job. @param {JobStatus} job */
export const isFailing = (job) => job.state === "failed" || job.phase === "holding" || (job.failed_chunks > 0 && !hasEnded(job));

/** What of `anna@ws-12` or `anna@studio.example` is the person: hosts and services put other things after it. @param {string} name */
const personOf = (name) => name.split("@")[0].toLowerCase();

/** Whether somebody has submitted a job, from whichever host. @param {JobStatus} job @param {string} me */
export const isOf = (job, me) => Boolean(me && job.submitted_by) && personOf(job.submitted_by) === personOf(me);

/** Words that `state:` understands, each with the jobs that it names. @type {Record<string, (job: JobStatus) => boolean>} */
export const STATES = {
  pending: (job) => job.state === "pending",
  running: (job) => job.state === "running",
  paused: (job) => job.state === "paused",
  holding: (job) => job.phase === "holding" && !hasEnded(job),
  completed: (job) => job.state === "completed",
  failed: (job) => job.state === "failed",
  cancelled: (job) => job.state === "cancelled",
  failing: isFailing,
  waiting: (job) => !hasEnded(job) && Boolean(job.waiting_for),
  ended: hasEnded,
};

/**
 * Read a filter: `state:running,paused show:sq140 by:me -test word`. Words must all be in the name, the id or the
 * store; what begins with a minus must not.
 * @param {string} text @param {string} [me] whose jobs `by:me` names
 * @returns {{test: (job: JobStatus) => boolean, complaints: string[], states: string[], isMine: boolean}}
 */
export function parseFilter(text, me = "") {
  /** @type {Array<(job: JobStatus) => boolean>} */
  const tests = [];
  const complaints = [];
  /** @type {string[]} */
  let states = [];
  let isMine = false;
  for (const raw of text.match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []) {
    const isNot = raw.length > 1 && raw.startsWith("-");
    const [, key = "", quoted] = /^(?:([a-z]+):)?(.*)$/is.exec(isNot ? raw.slice(1) : raw) ?? [];
    const value = quoted.replaceAll('"', "").toLowerCase();
    let test;
    if (key.toLowerCase() === "state") {
      const named = value.split(",").filter(Boolean);
      const unknown = named.filter((name) => !(name in STATES));
      // The last word may still be typed.
      if (unknown.length) complaints.push(`state:${unknown.join(",")} is none of ${Object.keys(STATES).join(", ")}`);
      const known = named.filter((name) => name in STATES);
      if (!known.length) continue;
      if (!isNot) states = known;
      test = (/** @type {JobStatus} */ job) => known.some((name) => STATES[name](job));
    } else if (key.toLowerCase() === "by" && value === "me") {
      isMine ||= !isNot;
      test = (/** @type {JobStatus} */ job) => isOf(job, me);
    } else {
      if (key && !["show", "name", "id", "store", "by"].includes(key.toLowerCase())) {
        complaints.push(`${key}: is no key; there are state:, show:, id:, store: and by:`);
        continue;
      }
      if (!value) continue;
      const field = key.toLowerCase();
      test = (/** @type {JobStatus} */ job) => textOf(job, field).includes(value);
    }
    const wanted = test;
    tests.push(isNot ? (job) => !wanted(job) : wanted);
  }
  return { test: (job) => tests.every((one) => one(job)), complaints, states, isMine };
}

/** @param {JobStatus} job @param {string} field */
function textOf(job, field) {
  const parts = { id: [job.id], store: [job.base_dir], name: [job.name], by: [job.submitted_by] }[field] ?? [job.name, job.id, job.base_dir];
  return parts.join("\n").toLowerCase();
}

/** The same filter with other states; none takes them out. @param {string} text @param {string[]} states */
export function withStates(text, states) {
  const rest = text.replace(/(^|\s)state:\S*/gi, " ").trim().replace(/\s+/g, " ");
  return [states.length ? `state:${states.join(",")}` : "", rest].filter(Boolean).join(" ");
}

/** The same filter with `by:me`, or without. @param {string} text @param {boolean} isMine */
export function withMine(text, isMine) {
  const rest = text.replace(/(^|\s)by:me(?=\s|$)/gi, " ").trim().replace(/\s+/g, " ");
  return [rest, isMine ? "by:me" : ""].filter(Boolean).join(" ");
}

/** How much a job wants to be looked at, the most first. @param {JobStatus} job */
function urgency(job) {
  if (job.phase === "holding" && !hasEnded(job)) return 0;
  if (job.state === "failed") return 1;
  if (job.failed_chunks > 0 && !hasEnded(job)) return 2;
  if (!hasEnded(job)) return jobTrouble(job) ? 3 : 4;
  return 5;
}

const STATE_ORDER = ["failed", "paused", "running", "pending", "cancelled", "completed"];

/** @param {string|null|undefined} iso */
const stamp = (iso) => (iso ? Date.parse(iso) : 0);

/** What a column sorts by; every one is a number or text. @type {Record<string, (job: JobStatus) => number|string>} */
export const SORTS = {
  attention: urgency,
  name: (job) => (job.name || job.id).toLowerCase(),
  state: (job) => STATE_ORDER.indexOf(job.state),
  progress: (job) => job.progress,
  running: (job) => job.running_chunks + job.frozen_chunks,
  eta: (job) => secondsToGo(job) ?? (hasEnded(job) ? Infinity : 1e12),
  failed: (job) => job.failed_chunks,
  created: (job) => stamp(job.created_at),
  by: (job) => (job.submitted_by || "\uffff").toLowerCase(),
};

/** Columns that one looks at for their largest values. */
export const LARGEST_FIRST = new Set(["progress", "running", "failed", "created"]);

/**
 * Sort jobs; equals stand by their submission, the youngest first.
 * @param {JobStatus[]} jobs @param {string} sort a key of SORTS, with `-` before it to turn it
 */
export function sortJobs(jobs, sort) {
  const turned = sort.startsWith("-");
  const key = SORTS[turned ? sort.slice(1) : sort] ?? SORTS.attention;
  const rows = jobs.map((job) => ({ job, key: key(job), created: stamp(job.created_at) }));
  rows.sort((a, b) => {
    if (a.key !== b.key) return (a.key < b.key ? -1 : 1) * (turned ? -1 : 1);
    return b.created - a.created || (a.job.id < b.job.id ? -1 : 1);
  });
  return rows.map((row) => row.job);
}
