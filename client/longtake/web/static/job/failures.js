// Failures by their cause: which frames and hosts, the lines of the log that matter, what helps, and the button for it.

import { fill, h, setText } from "../dom.js";
import { count, counted, ranges } from "../format.js";
import { hasEnded } from "../jobfilter.js";
import { steer } from "../steer.js";
import { weight } from "./ansi.js";
import { FAILED } from "./columns.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {{cause: string, tries: number, open_chunks: number, chunk_count: number, chunks: Array<[number, number]>, frames: string,
 *   hosts: string[], lines: string[], helps: string, example: number, gave_up: boolean}} Cause */

const LOOK_EVERY_MS = 3000;
const SHOWN_LINES = 4;

/** @param {JobModel} model @param {import("../app.js").Context} context */
export function failuresPanel(model, context) {
  const { api, id, signal } = context;
  const note = h("span", { class: "faint" });
  const list = h("div", { class: "causes" });
  const element = h("section", { class: "panel sec failures", "aria-labelledby": "failures-title", hidden: true }, h("header", {}, h("h2", { id: "failures-title" }, "Failures"), note), list);

  function show() {
    const { causes } = model;
    element.hidden = causes.length === 0;
    const open = causes.reduce((sum, one) => sum + one.open_chunks, 0);
    setText(note, `${open ? counted(open, "chunk") : "all mended since"}, ${counted(causes.length, "cause")}`);
    fill(list, causes.map(makeCause));
  }

  /** @param {Cause} one */
  function makeCause(one) {
    const chunks = one.chunks.filter(([start, stop]) => model.state.subarray(start, stop).includes(FAILED));
    const frames = model.layout.isExact && one.frames ? `${/^-?\d+$/.test(one.frames) ? "frame" : "frames"} ${one.frames}` : `chunks ${ranges(one.chunks)}`;
    const hover = { source: "failures", ranges: one.chunks };
    // Its head has the button for all that is missing.
    const retry = hasEnded(model.status) ? "Retry these" : "Retry";
    const canRetry = context.can("steer") && chunks.length > 0 && !model.status.needs_change;
    return h(
      "div",
      { class: `cause${one.open_chunks ? "" : " mended"}`, on: { pointerenter: () => model.setHover(hover), pointerleave: () => model.setHover(null), focusin: () => model.setHover(hover), focusout: () => model.setHover(null) } },
      h("b", { class: "cause-count", title: one.open_chunks ? "chunks that are not done" : "tries; the chunks are done since" }, count(one.open_chunks || one.tries)),
      h(
        "div",
        { class: "cause-body" },
        h("p", { class: "cause-name" }, one.cause),
        h("p", { class: "soft" }, h("button", { class: "cause-frames", type: "button", title: "Show the last one", on: { click: () => model.selectChunk(one.example) } }, frames), one.hosts.length > 0 && ` · ${one.hosts.join(", ")}`, !one.open_chunks && " · mended since"),
        one.lines.length > 0 && h("pre", { class: "cause-lines", tabIndex: 0, "aria-label": "Lines of the log" }, one.lines.slice(0, SHOWN_LINES).map((line) => h("span", { class: `line ${weight(line)}` }, line))),
        one.helps && h("p", { class: "cause-helps" }, h("span", { class: "soft" }, "Helps: "), inCode(one.helps)),
      ),
      canRetry && h("button", { class: "btn", type: "button", title: hasEnded(model.status) ? "Start the job again for these alone" : "Render these once more", "aria-label": `${retry}: what failed by ${one.cause}`, on: { click: () => void steer("retry", [model.status], { chunks }, (status) => model.learn(status)) } }, retry),
    );
  }

  async function keep() {
    let known = "";
    while (!signal.aborted) {
      const { status } = model;
      const next = [status.state, status.failed_chunks, status.completed_chunks, (status.running ?? []).filter((/** @type {any} */ one) => one.error).length].join(" ");
      if (next !== known) {
        try {
          const found = await api.get(api.job(id, "failures"), { signal });
          model.setCauses(Array.isArray(found) ? found : found.causes ?? []);
          known = next;
        } catch {
          if (signal.aborted) return;
          // What the status itself knows, until the store answers.
          model.setCauses(causesOf(model));
        }
        show();
      }
      await api.pause(LOOK_EVERY_MS, signal);
    }
  }

  model.on("columns", show, signal);
  void keep();
  return element;
}

/** What the status itself tells of failures, where the store is away. @param {JobModel} model @returns {Cause[]} */
function causesOf(model) {
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const failure of model.status.failures ?? []) {
    const key = failure.error.replace(/\d+/g, "#").slice(0, 200);
    groups.set(key, [...(groups.get(key) ?? []), failure]);
  }
  return [...groups.values()].map((group) => {
    const last = group[group.length - 1];
    return {
      cause: last.error.split("\n")[0], tries: group.length, open_chunks: group.length, chunk_count: group.length, chunks: group.map((one) => [one.chunk, one.chunk + 1]),
      frames: ranges(group.map((one) => [one.start, one.stop])), hosts: [...new Set(group.map((one) => one.host).filter(Boolean))], lines: [], helps: "", example: last.chunk, gave_up: true,
    };
  });
}

/** Text with what stands between backticks as code. @param {string} text */
export const inCode = (text) => text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
