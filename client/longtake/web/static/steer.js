// Pause, resume, retry and cancel one job or many at once, and say what became of it.

import * as api from "./api.js";
import { h } from "./dom.js";
import { counted, duration } from "./format.js";
import { hasEnded } from "./jobfilter.js";
import { confirm, openMenu, pauseModes, toast } from "./ui.js";

/** @typedef {import("./format.js").JobStatus} JobStatus */
/** @typedef {"pause"|"resume"|"retry"|"cancel"} Verb */

/** Jobs that a request would change. @type {Record<Verb, (job: JobStatus) => boolean>} */
export const APPLIES = {
  pause: (job) => !hasEnded(job) && job.state !== "paused" && job.phase !== "pausing",
  resume: (job) => !hasEnded(job) && (job.state === "paused" || job.phase === "pausing" || job.phase === "holding"),
  retry: (job) => (["failed", "cancelled"].includes(job.state) && !job.needs_change) || (!hasEnded(job) && job.failed_chunks > 0),
  cancel: (job) => !hasEnded(job) && job.phase !== "cleaning_up",
};

const DONE = { pause: "Pausing", resume: "Resumed", retry: "Trying again", cancel: "Cancelling" };

// Requests at once: browsers have six connections to a server, and the page needs some itself.
const AT_ONCE = 3;

/**
 * Send a request for each job, and tell what became of it.
 * @param {Verb} verb @param {JobStatus[]} jobs @param {any} [body]
 * @param {(status: JobStatus) => void} [onStatus] called with each status that is answered
 */
export async function steer(verb, jobs, body = {}, onStatus = () => {}) {
  const waiting = [...jobs];
  /** @type {Array<{job: JobStatus, error: any}>} */
  const failed = [];
  async function work() {
    for (let job = waiting.shift(); job; job = waiting.shift()) {
      try {
        const status = await api.post(api.job(job.id, verb), body);
        if (status?.id) onStatus(status);
      } catch (error) {
        failed.push({ job, error });
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, jobs.length) }, work));
  const done = jobs.length - failed.length;
  const name = (/** @type {JobStatus} */ job) => job.name || job.id;
  if (done) toast(`${DONE[verb]} ${done === 1 && jobs.length === 1 ? name(jobs[0]) : counted(done, "job")}${body.mode ? ` (${body.mode})` : ""}`, { kind: "good" });
  if (failed.length) {
    const what = failed.length === 1 ? `Could not ${verb} ${name(failed[0].job)}` : `Could not ${verb} ${counted(failed.length, "job")}`;
    toast(what, { kind: "error", detail: failed[0].error?.message ?? String(failed[0].error) });
  }
}

/** What of some jobs runs now, in words for the pause menu. @param {JobStatus[]} jobs */
export function whatRuns(jobs) {
  let running = 0;
  let frames = 0;
  let longest = 0;
  for (const job of jobs) {
    running += job.running_chunks;
    for (const chunk of job.running ?? []) if (!chunk.waiting && !chunk.frozen) frames += Math.max(0, chunk.frames - chunk.frames_done);
    if (job.running_chunks && job.metrics?.chunk_seconds) longest = Math.max(longest, job.metrics.chunk_seconds);
  }
  return { running, frames, about: longest ? `up to ${duration(longest)}` : "" };
}

/**
 * Open the menu of pause modes, each with what it means for these jobs now.
 * @param {HTMLElement} anchor @param {JobStatus[]} jobs @param {(status: JobStatus) => void} [onStatus]
 */
export function openPauseMenu(anchor, jobs, onStatus) {
  const items = pauseModes(whatRuns(jobs)).map(({ mode, label, hint }) => ({
    label,
    hint,
    run: () => void steer("pause", jobs, { mode }, onStatus),
  }));
  openMenu(anchor, items, { label: `How to pause ${jobs.length === 1 ? jobs[0].name || jobs[0].id : counted(jobs.length, "job")}` });
}

/** Cancel jobs once somebody has said yes. @param {JobStatus[]} jobs @param {(status: JobStatus) => void} [onStatus] */
export async function cancelJobs(jobs, onStatus) {
  const one = jobs.length === 1;
  const running = whatRuns(jobs).running;
  const yes = await confirm({
    title: one ? `Cancel ${jobs[0].name || jobs[0].id}?` : `Cancel ${counted(jobs.length, "job")}?`,
    body: [
      !one && h("ul", { class: "names" }, jobs.slice(0, 8).map((job) => h("li", {}, job.name || job.id)), jobs.length > 8 && h("li", { class: "soft" }, `and ${jobs.length - 8} more`)),
      h("p", { class: "soft" }, running ? `${counted(running, "chunk")} that ${running === 1 ? "renders is" : "render are"} stopped. ` : "", "Finished chunks stay, and a retry goes on from them."),
    ],
    action: one ? "Cancel the job" : `Cancel ${counted(jobs.length, "job")}`,
    cancel: one ? "Let it run" : "Let them run",
    danger: true,
  });
  if (yes) await steer("cancel", jobs, {}, onStatus);
}
