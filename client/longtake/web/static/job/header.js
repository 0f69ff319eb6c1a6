// The head of the job page: name, state, controls that say what they cost, the bar, and the facts in one row.

import { fill, h, setText } from "../dom.js";
import { bytes, clock, count, counted, duration, jobPill, jobTrouble, percent, progressBar, time, updateBar } from "../format.js";
import { hasEnded } from "../jobfilter.js";
import { APPLIES, cancelJobs, steer } from "../steer.js";
import { openMore } from "./actions.js";
import { inCode } from "./failures.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../app.js").Context} Context */

// Of the place of a store the end tells more.
const LONGEST_STORE = 36;

/** @param {JobModel} model @param {Context} context */
export function jobHeader(model, context) {
  const { signal } = context;
  const name = h("h1", { class: "job-name", tabIndex: -1 });
  const state = h("span", { class: "job-state" });
  const pause = h("button", { class: "btn more", type: "button", title: "Pause (p)", "aria-haspopup": "menu", on: { click: () => openPause() } }, "Pause");
  const resume = h("button", { class: "btn main", type: "button", title: "Let it go on (g)", on: { click: () => void steer("resume", [model.status], {}, take) } }, "Resume");
  const retry = h("button", { class: "btn", type: "button", title: "Try again what failed (r)", on: { click: () => void steer("retry", [model.status], {}, take) } });
  const cancel = h("button", { class: "btn danger", type: "button", title: "Cancel the job (c)", on: { click: () => void cancelJobs([model.status], take) } }, "Cancel");
  const more = h("button", { class: "btn icon", type: "button", "aria-label": "More", title: "More", "aria-haspopup": "menu", on: { click: () => openMore(more, model, context, take) } }, "⋯");
  const bar = progressBar();
  const controls = h("div", { class: "row job-controls" }, resume, pause, retry, cancel, more);
  const facts = h("dl", { class: "facts" });
  const notices = h("div", { class: "job-notices" });
  const element = h(
    "section",
    { class: "panel pad job-head live", "aria-label": "Job" },
    h("div", { class: "job-top" }, h("div", { class: "row job-title" }, name, state, h("span", { class: "faint mono job-id", title: "id of the job" }, model.id)), controls),
    bar,
    facts,
    notices,
  );

  /** @param {HTMLButtonElement} button */
  const press = (button) => void (!button.hidden && button.click());
  /** @param {any} status */
  const take = (status) => model.learn(status);

  function openPause() {
    context.openMenu(pause, pauseItems(model).map(({ mode, label, hint }) => ({ label, hint, run: () => void steer("pause", [model.status], { mode }, take) })), { label: "How to pause" });
  }

  function show() {
    const { status } = model;
    const title = status.name || status.id;
    setText(name, title);
    document.title = `${hasEnded(status) ? status.state : percent(status.progress)} · ${title} · Longtake`;
    fill(state, jobPill(status));
    updateBar(bar, status);
    const may = context.can("steer");
    pause.hidden = !may || !APPLIES.pause(status);
    resume.hidden = !may || !APPLIES.resume(status);
    retry.hidden = !may || !APPLIES.retry(status);
    cancel.hidden = !may || !APPLIES.cancel(status);
    // A bar at the foot of a phone is worth its room for more than one button.
    controls.classList.toggle("few", [resume, pause, retry, cancel].every((one) => one.hidden));
    setText(retry, status.failed_chunks ? `Retry ${count(status.failed_chunks)} failed` : "Retry");
    showNotices();
    showFacts();
  }

  function showNotices() {
    const { status } = model;
    const trouble = jobTrouble(status);
    fill(
      notices,
      trouble && h("p", { class: `notice ${status.error ? "bad" : "wait"}` }, h("i", { class: "mark", "aria-hidden": "true" }), h("span", {}, h("b", {}, status.error ? "Why: " : "Waits: "), inCode(status.waiting_for || status.error || ""))),
      status.remote_stops?.unconfirmed_count > 0 && h("p", { class: "notice wait" }, h("i", { class: "mark", "aria-hidden": "true" }), `${counted(status.remote_stops.unconfirmed_count, "remote render")} ${status.remote_stops.unconfirmed_count === 1 ? "has" : "have"} not said that ${status.remote_stops.unconfirmed_count === 1 ? "it has" : "they have"} stopped`),
      (status.notices ?? []).map((/** @type {string} */ notice) => h("p", { class: "notice" }, h("i", { class: "mark", "aria-hidden": "true" }), notice)),
      storyOf(status),
      status.result?.note && h("p", { class: "notice" }, h("i", { class: "mark", "aria-hidden": "true" }), status.result.note),
    );
    notices.hidden = !notices.childElementCount;
  }

  function showFacts() {
    fill(facts, factsOf(model, context).map(({ value, label, kind }) => h("div", { class: kind ?? "" }, h("dt", {}, label), h("dd", {}, value))));
  }

  context.keys([
    { keys: ["p"], label: "Pause: Enter takes the mode", group: "Job", run: () => press(pause) },
    { keys: ["g"], label: "Let it go on", group: "Job", run: () => press(resume) },
    { keys: ["r"], label: "Try again what failed", group: "Job", run: () => press(retry) },
    { keys: ["c"], label: "Cancel, once it is confirmed", group: "Job", run: () => press(cancel) },
  ]);
  model.on("status", show, signal);
  model.on("columns causes", showFacts, signal);
  return element;
}

const REQUESTS = { pause: "paused", resume: "resumed", cancel: "cancelled", retry: "tried again", skip: "left out", set_max_parallel: "limited" };

/** Who has submitted it, and who asked last for what. @param {import("../format.js").JobStatus} status */
function storyOf(status) {
  const last = (status.requests ?? []).at(-1);
  const what = last && (REQUESTS[/** @type {keyof typeof REQUESTS} */ (last.what)] ?? last.what);
  const parts = [
    status.submitted_by && ["submitted by ", status.submitted_by, ", ", time(status.created_at)],
    last && [`${what}${last.detail ? ` (${last.detail})` : ""} by ${last.by || "somebody"}, `, time(last.at)],
  ].filter(Boolean);
  return parts.length ? h("p", { class: "job-request soft" }, parts.map((part, index) => [index > 0 && " · ", part])) : null;
}

/**
 * Ways to pause, each with what it means for this job at this moment.
 * @param {JobModel} model
 */
function pauseItems(model) {
  const { status } = model;
  const chunks = (status.running ?? []).filter((/** @type {any} */ one) => !one.waiting && !one.frozen);
  const shown = chunks.length;
  const running = Math.max(status.running_chunks, shown);
  let frames = 0;
  let longest = 0;
  let memory = 0;
  let cpu = 0;
  for (const chunk of chunks) {
    // What has only just begun has not told how many frames it has.
    const all = chunk.frames || model.layout.countOf(chunk.chunk);
    const left = Math.max(0, all - chunk.frames_done);
    frames += left;
    memory += chunk.memory_bytes;
    cpu += chunk.cpu_seconds;
    const whole = status.metrics?.chunk_seconds;
    if (whole) longest = Math.max(longest, (whole * left) / all);
  }
  // The status names the first that run; the others are taken to be like them.
  const scale = shown ? running / shown : 1;
  const what = running === 1 ? "the chunk that renders" : `the ${count(running)} chunks that render`;
  const them = [frames && counted(Math.round(frames * scale), "frame"), longest && `about ${duration(longest)}`].filter(Boolean).join(", ");
  if (!running) {
    return [
      { mode: "drain", label: "Drain", hint: "Nothing renders now: no further chunk is started." },
      { mode: "freeze", label: "Freeze", hint: "Nothing renders now, so nothing has to stand still." },
      { mode: "now", label: "Now", hint: "Nothing renders now, so nothing is stopped." },
    ];
  }
  return [
    { mode: "drain", label: "Drain", hint: `Finishes ${what} first${them ? `: ${them}` : ""}. Nothing is rendered twice.` },
    { mode: "freeze", label: "Freeze", hint: `Lets ${what} stand still at once. ${counted(running, "slot")}${memory ? ` and ${bytes(memory * scale)} of memory stay` : running === 1 ? " stays" : " stay"} taken, and all goes on where it stood.` },
    { mode: "now", label: "Now", hint: `Stops ${what} and frees the slots. Whole frames stay; begun ones are rendered again${cpu >= 1 ? `: up to ${duration(cpu * scale)} of CPU time` : ""}.` },
  ];
}

/** @param {JobModel} model @param {Context} context @returns {Array<{value: any, label: any, kind?: string}>} */
function factsOf(model, context) {
  const { status } = model;
  const { metrics } = status;
  const facts = [];
  const what = status.total_frames ? `${count(status.completed_frames)} of ${counted(status.total_frames, "frame")}` : `${count(status.completed_chunks)} of ${counted(status.total_chunks, "chunk")}`;
  facts.push({ value: percent(status.progress), label: what });
  const ended = hasEnded(status);
  if (!ended) {
    const ready = status.eta_seconds !== null && status.eta_seconds !== undefined ? new Date(Date.now() + status.eta_seconds * 1000) : null;
    facts.push({ value: ready ? duration(status.eta_seconds) : "–", label: ready ? h("span", {}, "to go, ready about ", time(ready, clock(ready))) : status.state === "paused" ? "to go once it is resumed" : "to go: not known yet" });
    const hosts = new Set((status.running ?? []).filter((/** @type {any} */ one) => !one.waiting && one.host).map((/** @type {any} */ one) => one.host));
    const active = status.running_chunks + status.frozen_chunks;
    const verb = status.frozen_chunks && !status.running_chunks ? "frozen" : "rendering";
    facts.push({ value: status.max_parallel ? `${count(active)} of ${count(status.max_parallel)}` : count(active), label: hosts.size ? `${verb} on ${counted(hosts.size, "host")}` : verb });
  } else if (status.started_at && status.updated_at) {
    const took = (Date.parse(status.updated_at) - Date.parse(status.started_at)) / 1000;
    facts.push({ value: duration(took), label: h("span", {}, "ended ", time(status.updated_at)) });
  }
  const causes = model.causes.filter((one) => one.open_chunks > 0).length;
  if (status.failed_chunks) facts.push({ value: count(status.failed_chunks), label: causes ? `failed, ${counted(causes, "cause")}` : "failed", kind: "fact-bad" });
  if (status.left_out_chunks) facts.push({ value: count(status.left_out_chunks), label: "left out" });
  const times = model.hasColumns ? model.measures.seconds : null;
  if (times?.count) facts.push({ value: duration(times.p50), label: `a ${model.unit} (p95 ${duration(times.p95)})` });
  else if (metrics?.chunk_seconds) facts.push({ value: duration(metrics.chunk_seconds), label: "a chunk" });
  if (metrics?.cpu_seconds) facts.push({ value: duration(metrics.cpu_seconds), label: "CPU so far".replace(ended ? " so far" : "\0", "") });
  if (metrics?.cost_usd) facts.push({ value: `$ ${metrics.cost_usd.toFixed(metrics.cost_usd < 1 ? 4 : 2)}`, label: `${duration(metrics.billed_seconds)} billed` });
  else if (metrics?.peak_memory_bytes) facts.push({ value: bytes(metrics.peak_memory_bytes), label: "memory at most" });
  const history = temporalLink(model, context);
  const where = status.base_dir ?? "";
  facts.push({
    value: where ? h("span", { title: where }, where.length > LONGEST_STORE ? `…\u2060${where.slice(1 - LONGEST_STORE)}` : where) : "–",
    label: h("span", {}, "store", history && [" · ", h("a", { class: "link", href: history, target: "_blank", rel: "noopener" }, "Temporal history")]),
    kind: "fact-store",
  });
  return facts;
}

/** @param {JobModel} model @param {Context} context */
function temporalLink(model, context) {
  const temporal = context.me?.temporal;
  if (!temporal?.ui) return null;
  return `${temporal.ui.replace(/\/$/, "")}/namespaces/${encodeURIComponent(temporal.namespace)}/workflows/${encodeURIComponent(model.id)}`;
}
