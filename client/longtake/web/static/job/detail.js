// What is known of the selected frame: its picture, tries, times, memory, log, command and files.

import { fill, h, setText } from "../dom.js";
import { CHUNK_STATES, CHUNK_WORDS, bytes, clock, counted, duration, pill, ranges, time } from "../format.js";
import { hasEnded } from "../jobfilter.js";
import { steer } from "../steer.js";
import { copyable } from "../ui.js";
import { askSkip } from "./actions.js";
import { DONE, FAILED, LEFT_OUT, TODO } from "./columns.js";
import { inCode } from "./failures.js";
import { logView } from "./log.js";
import { pictureAddress } from "./pictures.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../app.js").Context} Context */

// Arrows walk through the map faster than a server need be asked.
const SETTLE_MS = 140;
const SHOWN_OUTPUTS = 12;
const LOOK_AGAIN_MS = 1000;
// A store that is away is asked again.
const ASK_AGAIN_MS = 5000;

/** @param {JobModel} model @param {Context} context */
export function detailPanel(model, context) {
  const { api, signal } = context;
  const heading = h("h2", { id: "detail-title", tabIndex: -1 });
  const state = h("span", {});
  const tools = h("span", { class: "sp" });
  const body = h("div", { class: "detail-body" });
  const element = h("section", { class: "panel sec detail", "aria-labelledby": "detail-title" }, h("header", {}, heading, state, tools), body);

  /** What is shown: a chunk in a state, after so many tries. */
  let shown = "";
  let leaving = new AbortController();
  /** @type {{path: string, leave: AbortController, view: ReturnType<typeof logView>}|null} */
  let shownLog = null;
  signal.addEventListener("abort", () => leaving.abort());

  function show() {
    const { selection, layout } = model;
    if (!selection) return showNothing();
    const { chunk, place } = selection;
    const code = model.state[chunk];
    setText(heading, layout.isExact ? `Frame ${layout.numberAt(place)}` : `Chunk ${chunk}`);
    // Without the store nobody knows what is done.
    const isKnown = model.hasColumns || !model.columnsTrouble || code !== TODO;
    fill(state, isKnown ? pill(CHUNK_STATES[code], CHUNK_WORDS[CHUNK_STATES[code]]) : h("span", { class: "soft" }, "not known now"));
    fill(tools, isKnown && toolsOf(chunk, code));
    const now = `${chunk} ${code} ${model.columns.tries[chunk]} ${model.running.get(chunk)?.attempt ?? 0}`;
    if (now !== shown) void load(chunk, shown.startsWith(`${chunk} `));
    shown = now;
    showPicture(chunk);
    const live = body.querySelector(".detail-live");
    if (live) fill(live, liveOf(chunk));
  }

  /** Pictures come after their chunks, and each shows some frames. @param {number} chunk */
  function showPicture(chunk) {
    const place = body.querySelector(".detail-pictures");
    if (!place) return;
    const figure = pictureOf(chunk);
    const now = place.querySelector("img")?.getAttribute("src") ?? "";
    if (now !== (figure?.querySelector("img")?.getAttribute("src") ?? "")) fill(place, figure);
  }

  /** The picture that came last, while nothing is selected. */
  function showNothing() {
    const latest = model.pictures.reduce((/** @type {any} */ last, one) => (!last || model.columns.ended[one.chunk] >= model.columns.ended[last.chunk] ? one : last), null);
    const now = `nothing ${latest?.name}`;
    if (shown === now) return;
    shown = now;
    leaving.abort();
    shownLog?.leave.abort();
    shownLog = null;
    setText(heading, latest ? `Latest picture: frame ${latest.frame}` : "Details");
    fill(state);
    fill(tools);
    fill(body, latest && figureOf(latest, `Picture of frame ${latest.frame}`), h("p", { class: "soft detail-hint" }, "Choose a frame in the map, by a click or with the arrows: its picture, tries, log and times are shown here."));
  }

  /** @param {number} chunk @param {number} code */
  function toolsOf(chunk, code) {
    if (!context.can("steer")) return [];
    const { status } = model;
    const range = /** @type {[number, number]} */ ([chunk, chunk + 1]);
    const ended = hasEnded(status);
    const retry = { class: "btn", type: "button" };
    return [
      canRender(code) && h("button", { ...retry, title: ended ? "Start the job again for this alone" : code === LEFT_OUT ? "Render it after all" : "Render it once more", on: { click: () => void steer("retry", [status], { chunks: [range] }, (answer) => model.learn(answer)) } }, code !== FAILED ? "Render it" : ended ? "Retry this one" : "Retry"),
      code === DONE && ended && h("button", { ...retry, title: "Render it anew, and what is made of it", on: { click: () => void renderAgain(chunk) } }, "Render again"),
      !ended && (code === FAILED || code === TODO) && h("button", { ...retry, title: "Leave it out", on: { click: () => void askSkip(model, context, [range]) } }, "Skip"),
    ];
  }

  /** Whether a chunk that is not done can be asked for by itself. @param {number} code */
  function canRender(code) {
    const { status } = model;
    if (status.needs_change || status.state === "completed") return false;
    return code === FAILED || code === LEFT_OUT || (code === TODO && hasEnded(status));
  }

  /** @param {number} chunk */
  async function renderAgain(chunk) {
    const { layout, status } = model;
    const first = layout.placeOf(chunk);
    const frames = ranges([[layout.numberAt(first), layout.numberAt(first + layout.countOf(chunk) - 1) + 1]]);
    const yes = await context.confirm({ title: `Render ${layout.nameOf(chunk)} again?`, body: h("p", { class: "soft" }, "What stands there now is replaced once the new one is proven. Films made of it are made anew."), action: "Render again" });
    if (yes) await steer("retry", [status], { frames }, (answer) => model.learn(answer));
  }

  /** What changes while it renders. @param {number} chunk */
  function liveOf(chunk) {
    const one = model.running.get(chunk);
    if (!one) return [];
    return [
      one.waiting
        ? row("Waits", one.error ? `for its next try: ${one.error}` : "for a free slot")
        : row(one.frozen ? "Frozen" : "Renders", [one.frames > 1 ? `${one.frames_done} of ${one.frames} frames` : "", one.host && `on ${one.host}`, one.attempt > 1 && `try ${one.attempt}`, one.began && `since ${clock(one.began)}`].filter(Boolean).join(" · ") || "now"),
      one.message && row("Says", h("span", { class: "mono" }, one.message)),
      one.memory_bytes > 0 && row("Uses", [bytes(one.memory_bytes), one.cpu_seconds > 0 && `${duration(one.cpu_seconds)} CPU`].filter(Boolean).join(" · ")),
    ];
  }

  /** @param {number} chunk @param {boolean} isSame the one that was shown, in another state */
  async function load(chunk, isSame) {
    leaving.abort();
    const mine = new AbortController();
    leaving = mine;
    if (!isSame) {
      fill(body, h("dl", { class: "pairs detail-live" }, liveOf(chunk)), h("p", { class: "faint" }, "…"));
      await api.pause(SETTLE_MS, mine.signal);
      if (mine.signal.aborted) return;
    }
    try {
      const found = await api.get(api.job(model.id, "chunks", chunk), { signal: mine.signal });
      if (mine.signal.aborted) return;
      showFound(chunk, found);
      // The log of a try comes a moment after its beginning.
      let logs = found.logs?.length ?? 0;
      for (let wait = LOOK_AGAIN_MS; logs <= (found.tries?.length ?? 0) && model.running.has(chunk); wait *= 1.5) {
        await api.pause(wait, mine.signal);
        if (mine.signal.aborted) return;
        const again = await api.get(api.job(model.id, "chunks", chunk), { signal: mine.signal });
        if (again.logs?.length > logs) showFound(chunk, again);
        logs = again.logs?.length ?? 0;
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      const known = model.status.failures?.find((/** @type {any} */ one) => one.chunk === chunk);
      fill(body, h("dl", { class: "pairs detail-live" }, liveOf(chunk)), known && h("dl", { class: "pairs" }, row("Why", known.error)), h("p", { class: "soft" }, `More is not known: ${/** @type {Error} */ (error).message}`));
      await api.pause(ASK_AGAIN_MS, mine.signal);
      if (!mine.signal.aborted) void load(chunk, true);
    }
  }

  /** @param {number} chunk @param {any} found ChunkDetail of the API */
  function showFound(chunk, found) {
    const tries = triesOf(found);
    const failed = tries.filter((/** @type {any} */ one) => one.error);
    const last = failed[failed.length - 1] ?? model.status.failures?.find((/** @type {any} */ one) => one.chunk === chunk);
    const code = model.state[chunk];
    const command = Array.isArray(found.command) ? found.command.map(quote).join(" ") : found.command;
    fill(
      body,
      h("div", { class: "detail-pictures" }, pictureOf(chunk)),
      h("dl", { class: "pairs detail-live" }, liveOf(chunk)),
      h(
        "dl",
        { class: "pairs" },
        model.layout.isExact && model.layout.countOf(chunk) > 1 && row("Chunk", `${chunk}, ${model.layout.nameOf(chunk)}`),
        tries.length > 0 && row("Tries", listTries(tries, code)),
        found.render_seconds > 0 && row("Rendered", [duration(found.render_seconds), found.host && ` on ${found.host}`, found.published_at && h("span", { class: "faint" }, " · ended ", time(found.published_at))]),
        found.cpu_seconds > 0 && row("CPU", [duration(found.cpu_seconds), found.render_seconds > 0 && h("span", { class: "faint" }, ` · ${(found.cpu_seconds / found.render_seconds).toFixed(1)} cores`)]),
        (found.peak_memory_bytes || last?.peak_memory_bytes) > 0 && row("Memory", [bytes(found.peak_memory_bytes || last.peak_memory_bytes), " at most"]),
        last?.error && code !== DONE && row("Why", h("span", { class: "bad" }, last.error)),
        last?.error && code !== DONE && model.causeOf(chunk)?.helps && row("Helps", h("span", { class: "soft" }, inCode(model.causeOf(chunk)?.helps ?? ""))),
        code === TODO && !model.running.has(chunk) && row("To do", "it has not been begun"),
        code === LEFT_OUT && row("Left out", hasEnded(model.status) ? "on request; the film is made without it" : "on request: the job goes on without it"),
      ),
      logsOf(chunk, found),
      outputsOf(found),
      command && h("details", { class: "detail-command" }, h("summary", {}, "Command"), copyable(command, "command")),
    );
    shownLog?.view.restore();
  }

  /** @param {any[]} tries @param {number} code */
  function listTries(tries, code) {
    const most = model.document?.retry?.attempts;
    const text = most && code !== DONE ? `${tries.length} of ${most}` : `${tries.length}`;
    return [
      text,
      h("ol", { class: "tries" }, tries.map((one) =>
        h("li", { title: one.error || null }, h("i", { class: "cell", dataset: { look: one.error ? "failed" : "done" } }), one.host || "–", h("span", { class: "faint" }, one.began && [" ", time(one.began), one.ended && ` · ${duration(seconds(one.ended) - seconds(one.began))}`])),
      )),
    ];
  }

  /** The picture of the selected frame, or the one before it. @param {number} chunk */
  function pictureOf(chunk) {
    const picture = model.pictureOf(chunk, model.selection?.place ?? model.layout.placeOf(chunk));
    return picture && figureOf(picture, `Picture of frame ${picture.frame}`);
  }

  /** @param {import("./pictures.js").Picture} picture @param {string} alt */
  function figureOf(picture, alt) {
    const gone = (/** @type {Event} */ event) => /** @type {HTMLElement} */ (event.target).closest("figure")?.remove();
    return h("figure", { class: "detail-picture" }, h("img", { src: pictureAddress(context, picture), alt, on: { error: gone } }));
  }

  /** @param {number} chunk @param {any} found */
  function logsOf(chunk, found) {
    const logs = found.logs ?? [];
    if (!logs.length) return null;
    const place = h("div", {});
    const pathOf = (/** @type {any} */ log) => api.job(model.id, "chunks", chunk, "logs", log.attempt);
    const last = logs[logs.length - 1];
    const choose = (/** @type {any} */ log) => {
      const path = pathOf(log);
      // What somebody reads stays as it is when the chunk gets further.
      if (shownLog?.path !== path) {
        shownLog?.leave.abort();
        const leave = new AbortController();
        signal.addEventListener("abort", () => leave.abort());
        shownLog = { path, leave, view: logView(context, { path, name: log.name ?? `of try ${log.attempt}`, grows: () => log.attempt >= last.attempt && model.running.has(chunk), signal: leave.signal }) };
      }
      for (const button of tabs.children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.attempt === String(log.attempt)));
      fill(place, shownLog.view.element);
      shownLog.view.restore();
    };
    const tabs = h("span", { class: "seg", role: "group", "aria-label": "Log of try" }, logs.map((/** @type {any} */ log) => h("button", { type: "button", dataset: { attempt: String(log.attempt) }, on: { click: () => choose(log) } }, `${log.attempt}`)));
    choose(last);
    return h("div", { class: "detail-log" }, h("div", { class: "sec-head" }, h("h3", {}, "Log"), logs.length > 1 && h("span", { class: "faint" }, "try"), logs.length > 1 && tabs), place);
  }

  /** @param {any} found */
  function outputsOf(found) {
    const outputs = found.outputs ?? [];
    if (!outputs.length) return null;
    const items = outputs.slice(0, SHOWN_OUTPUTS).map((/** @type {any} */ one) => {
      const path = one.path ?? one;
      const address = api.address(api.job(model.id, "outputs", "file"), { path });
      return h("li", {}, h("a", { class: "link", href: address, download: path.split("/").pop(), title: path }, path), one.size_bytes !== undefined && h("span", { class: "faint" }, ` ${bytes(one.size_bytes)}`));
    });
    return h("details", { class: "detail-outputs", open: outputs.length <= 3 }, h("summary", {}, counted(outputs.length, "file")), h("ul", {}, items, outputs.length > SHOWN_OUTPUTS && h("li", { class: "faint" }, `and ${outputs.length - SHOWN_OUTPUTS} more`)));
  }

  model.on("select status columns layout pictures", show, signal);
  show();
  return element;
}

/** Tries that failed, as the server tells them, and the one that did not. @param {any} found ChunkDetail */
function triesOf(found) {
  const failed = found.tries ?? [];
  if (!found.published_at || failed.some((/** @type {any} */ one) => !one.error)) return failed;
  const ended = seconds(found.published_at);
  return [...failed, { host: found.host, began: found.render_seconds ? ended - found.render_seconds : null, ended, error: "" }];
}

/** @param {any} name @param {any} value */
const row = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

/** @param {string|number} when */
const seconds = (when) => (typeof when === "number" ? when : Date.parse(when) / 1000);

/** A word of a command as a shell takes it. @param {string} word */
const quote = (word) => (/^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
