// The job page: what one job does, frame by frame. The panels stand in job/, and speak through one model.

import { fill, h } from "./dom.js";
import { hasEnded } from "./jobfilter.js";
import { Columns } from "./job/columns.js";
import { detailPanel } from "./job/detail.js";
import { distributionPanel } from "./job/distribution.js";
import { failuresPanel, inCode } from "./job/failures.js";
import { frameMap } from "./job/framemap.js";
import { jobHeader } from "./job/header.js";
import { JobModel } from "./job/model.js";
import { picturesPanel } from "./job/pictures.js";
import { timelinePanel } from "./job/timeline.js";

/** @typedef {import("./app.js").Context} Context */

// Columns are fetched when counts have changed, at most so often, and for at most so large a share of the time.
const COLUMNS_EVERY_MS = 1000;
const COLUMNS_SHARE = 0.1;

// Narrower than this, details stand below the map.
const NARROW = "(max-width: 1100px)";

/** @param {HTMLElement} root @param {Context} context */
export async function mount(root, context) {
  const { api, id, signal } = context;
  await linkStyles();
  context.title(id);
  const model = new JobModel(id);
  try {
    model.setStatus(await api.get(api.job(id), { signal }));
  } catch (error) {
    if (signal.aborted) return;
    const problem = /** @type {import("./api.js").Problem} */ (error);
    if (problem.status === 404) return showMissing(root, "No such job", problem.message, h("a", { class: "btn", href: "/" }, "All jobs"));
    showMissing(root, "This job cannot be read now", problem.message, h("button", { class: "btn", type: "button", on: { click: () => location.reload() } }, "Ask again"));
    return;
  }
  if (signal.aborted) return;
  context.title(model.status.name || id);

  const main = h("div", { class: "job-col" });
  const aside = h("aside", { class: "job-col", "aria-label": "Details" });
  const map = frameMap(model, context);
  const detail = detailPanel(model, context);
  main.append(map, picturesPanel(model, context), timelinePanel(model, context));
  aside.append(failuresPanel(model, context), distributionPanel(model, context));
  fill(root, jobHeader(model, context), h("div", { class: "job-grid live" }, main, aside));
  const narrow = matchMedia(NARROW);
  const place = () => (narrow.matches ? map.after(detail) : aside.prepend(detail));
  narrow.addEventListener("change", place, { signal });
  place();

  model.dispatchEvent(new Event("status"));
  keepAddress(model, context);
  void api.get(api.job(id, "document"), { signal }).then((document) => model.setDocument(document), () => model.setDocument(null));
  void keepColumns(model, context);
  void keepStatus(model, context);
}

/** Show the status as it changes. @param {JobModel} model @param {Context} context */
async function keepStatus(model, { api, id, signal, toastProblem }) {
  let attempt = new AbortController();
  signal.addEventListener("abort", () => attempt.abort());
  let hadEnded = hasEnded(model.status);
  model.on("status", () => {
    // A stream that was told of the end looks rarely; a job that is started again is followed at once.
    if (hadEnded && !hasEnded(model.status)) attempt.abort();
    hadEnded = hasEnded(model.status);
  }, signal);
  try {
    while (!signal.aborted) {
      attempt = new AbortController();
      await api.follow(api.job(id, "events"), {
        signal: attempt.signal,
        onEvent(name, data) {
          if (name === "status") model.setStatus(data);
          else if (name === "problem") api.notice(data, api.job(id));
        },
      });
    }
  } catch (error) {
    if (!signal.aborted) toastProblem("The job is no longer followed", error);
  }
}

/** Fetch what became of each chunk whenever the status says that something has. @param {JobModel} model @param {Context} context */
async function keepColumns(model, { api, id, signal }) {
  let tag = "";
  let known = "";
  /** @type {() => void} */
  let wake = () => {};
  model.on("status", () => wake(), signal);
  const countsOf = (/** @type {import("./format.js").JobStatus} */ status) =>
    [status.state, status.total_chunks, model.published, status.failed_chunks, status.skipped_chunks, status.left_out_chunks].join(" ");
  while (!signal.aborted) {
    const counts = countsOf(model.status);
    const began = performance.now();
    let wait = COLUMNS_EVERY_MS;
    if (counts !== known || model.columns.unread) {
      try {
        const answer = await api.ask(api.job(id, "chunks"), { signal, headers: tag ? { "if-none-match": tag } : {} });
        if (answer.status !== 304) {
          model.setColumns(new Columns(await answer.json()));
          tag = answer.headers.get("etag") ?? "";
        }
        else if (model.columnsTrouble) model.setColumns(model.columns);
        known = counts;
      } catch (error) {
        if (signal.aborted) return;
        model.loseColumns(/** @type {Error} */ (error).message);
        wait = 5 * COLUMNS_EVERY_MS;
      }
      await api.pause(Math.max(wait, (performance.now() - began) / COLUMNS_SHARE), signal);
    } else {
      await new Promise((resolve) => {
        wake = () => resolve(undefined);
        signal.addEventListener("abort", wake, { once: true });
      });
    }
  }
}

/** Keep the selection in the address, so that a frame can be sent. @param {JobModel} model @param {Context} context */
function keepAddress(model, { params, setParams, onParams, signal }) {
  /** What the address asked for before the frames were known. @type {URLSearchParams|null} */
  let asked = params;
  function take() {
    if (!asked || !model.isDocumentAsked) return;
    const { layout } = model;
    const [frame, chunk] = [asked.get("frame"), asked.get("chunk")];
    if (frame !== null && layout.isExact && layout.placeOfNumber(Number(frame)) >= 0) model.select(layout.placeOfNumber(Number(frame)));
    else if (chunk !== null && Number(chunk) < layout.chunks) model.selectChunk(Number(chunk));
    else if (frame === null && chunk === null) model.select(null);
    else if (!model.hasColumns) return;
    asked = null;
  }
  model.on("document layout columns", take, signal);
  onParams((given) => {
    asked = given;
    take();
  });
  model.on("select", () => {
    const { layout, selection } = model;
    setParams({ frame: selection && layout.isExact ? layout.numberAt(selection.place) : null, chunk: selection && !layout.isExact ? selection.chunk : null }, { replace: true });
  }, signal);
}

/** @param {HTMLElement} root @param {string} title @param {string} detail @param {HTMLElement} way out */
function showMissing(root, title, detail, way) {
  fill(root, h("section", { class: "panel empty" }, h("h1", {}, title), h("p", { class: "soft" }, inCode(detail)), h("p", {}, way)));
}

function linkStyles() {
  if (document.getElementById("job-css")) return Promise.resolve();
  return new Promise((resolve) => {
    const link = h("link", { id: "job-css", rel: "stylesheet", href: "/static/job/job.css", on: { load: resolve, error: resolve } });
    document.head.append(link);
  });
}
