// What is rarer than pausing: the limit of a job, skipping, its document and report, deleting its files.

import { h } from "../dom.js";
import { bytes, counted } from "../format.js";
import { hasEnded } from "../jobfilter.js";
import { copyable, openDialog } from "../ui.js";
import { logView } from "./log.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../app.js").Context} Context */

/** @param {HTMLElement} anchor @param {JobModel} model @param {Context} context @param {(status: any) => void} take */
export function openMore(anchor, model, context, take) {
  const { status } = model;
  const ended = hasEnded(status);
  const may = context.can("steer");
  const { api } = context;
  context.openMenu(
    anchor,
    [
      may && !ended && { label: "Change the limit", hint: `${counted(status.max_parallel, "chunk")} at once now`, run: () => askLimit(model, context) },
      may && !ended && status.failed_chunks > 0 && { label: `Skip ${counted(status.failed_chunks, "failed chunk")}`, hint: "They are left out, and the job goes on without them", run: () => void askSkip(model, context, failedRanges(model)) },
      { label: "Job file", hint: "As it was submitted, to copy", run: () => showDocument(model) },
      status.total_chunks > 0 && model.document?.output && { label: "Log of the film", hint: "What was printed while it was joined", run: () => void showFilmLog(model, context) },
      { label: "Report", hint: "One page to keep or send, with pictures and figures", run: () => void open(api.address(api.job(model.id, "report")), "_blank", "noopener") },
      { label: "Copy the command line", hint: `longtake status ${model.id}`, run: () => void navigator.clipboard?.writeText(`longtake status ${model.id}`) },
      may && ended && { label: "Delete its files", hint: "Outputs, logs and pictures in the store; the history stays", danger: true, run: () => void askDelete(model, context, take) },
    ].filter(Boolean),
    { label: "More" },
  );
}

/** Ranges of the chunks that have failed. @param {JobModel} model @returns {Array<[number, number]>} */
function failedRanges(model) {
  /** @type {Array<[number, number]>} */
  const found = [];
  for (let at = model.state.indexOf(5); at >= 0; at = model.state.indexOf(5, found[found.length - 1][1])) {
    let stop = at + 1;
    while (model.state[stop] === 5) stop++;
    found.push([at, stop]);
  }
  return found;
}

/** @param {JobModel} model @param {Context} context */
function askLimit(model, context) {
  const input = h("input", { type: "number", min: "1", max: "10000", required: true, value: String(model.status.max_parallel || 1), id: "limit" });
  const dialog = openDialog(
    "Chunks at once",
    h(
      "form",
      { method: "dialog" },
      h("p", { class: "soft" }, "What renders goes on in any case; a lower limit holds as chunks end."),
      h("p", { class: "row" }, h("label", { htmlFor: "limit" }, "At most"), input),
      h("div", { class: "row end" }, h("button", { class: "btn", type: "submit", value: "", formNoValidate: true }, "Leave as it is"), h("button", { class: "btn main", type: "submit", value: "yes" }, "Change the limit")),
    ),
  );
  input.select();
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      await context.api.put(context.api.job(model.id, "max-parallel"), { max_parallel: Number(input.value) });
      context.toast(`At most ${counted(Number(input.value), "chunk")} at once`, { kind: "good" });
    } catch (error) {
      context.toastProblem("Could not change the limit", error);
    }
  });
}

/** Leave chunks out once somebody has said yes. @param {JobModel} model @param {Context} context @param {Array<[number, number]>} chunks */
export async function askSkip(model, context, chunks) {
  const size = chunks.reduce((sum, [start, stop]) => sum + stop - start, 0);
  const gaps = h("input", { type: "checkbox", id: "gaps" });
  const yes = await context.confirm({
    title: size === 1 ? `Leave out ${model.layout.nameOf(chunks[0][0])}?` : `Leave out ${counted(size, "chunk")}?`,
    body: [h("p", { class: "soft" }, "The job goes on without. As long as it has not ended, it can be taken back in."), h("p", { class: "row" }, gaps, h("label", { htmlFor: "gaps" }, "Make the film with the gap"))],
    action: "Leave out",
    danger: true,
  });
  if (!yes) return;
  try {
    const { changed } = await context.api.post(context.api.job(model.id, "skip"), { chunks, allow_gaps: gaps.checked });
    context.toast(`${counted(changed, "chunk")} left out`, { kind: "good" });
  } catch (error) {
    context.toastProblem("Could not leave out", error);
  }
}

/** @param {JobModel} model @param {Context} context */
async function showFilmLog(model, context) {
  const { api } = context;
  try {
    const logs = await api.get(api.job(model.id, "logs"), { query: { chunk: "film" } });
    const last = logs[logs.length - 1];
    const leaving = new AbortController();
    context.signal.addEventListener("abort", () => leaving.abort());
    const dialog = openDialog(
      "Log of the film",
      last ? logView(context, { path: api.job(model.id, "chunks", "film", "logs", last.attempt), name: last.name, grows: () => !hasEnded(model.status), signal: leaving.signal }).element : h("p", { class: "soft" }, "There is none: the film is not begun, or was joined without a program."),
      h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main", type: "submit" }, "Close")),
    );
    dialog.classList.add("wide-dialog");
    dialog.addEventListener("close", () => leaving.abort());
  } catch (error) {
    context.toastProblem("Could not read the log", error);
  }
}

/** @param {JobModel} model */
function showDocument(model) {
  const text = model.document ? JSON.stringify(model.document, null, 2) : "Temporal no longer has it.";
  openDialog("Job file", copyable(text, "job file"), h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main", type: "submit" }, "Close")));
}

/** @param {JobModel} model @param {Context} context @param {(status: any) => void} take */
async function askDelete(model, context, take) {
  const yes = await context.confirm({
    title: `Delete the files of ${model.status.name || model.id}?`,
    body: h("p", { class: "soft" }, "Outputs, films, logs and pictures are removed from the store for good. Temporal keeps the history."),
    action: "Delete the files",
    danger: true,
  });
  if (!yes) return;
  try {
    const done = await context.api.ask(context.api.job(model.id, "files"), { method: "DELETE" });
    const told = await done.json().catch(() => ({}));
    context.toast("The files are deleted", { kind: "good", detail: told.size_bytes ? bytes(told.size_bytes) : undefined });
  } catch (error) {
    context.toastProblem("Could not delete the files", error);
  }
}
