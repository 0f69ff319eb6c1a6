// The submit page: paste or drop a job file, see what it would do, mend what is wrong where it stands, and start it.

import * as api from "./api.js";
import { fill, h, icon, setText } from "./dom.js";
import { EXAMPLE } from "./example.js";
import { findLine, lineOfMessage } from "./fieldlines.js";
import { bytes, count, counted, duration, jobPill } from "./format.js";
import { copyable } from "./ui.js";

const PLAN_AFTER_MS = 350;
// What the server takes, as for a job file of the command line.
const LARGEST_BYTES = 8 << 20;
const FOLDER_KEY = "longtake-folder";
const DRAFT_KEY = "longtake-draft";

/** @param {HTMLElement} root @param {import("./app.js").Context} context */
export function mount(root, context) {
  context.title("Submit a job");
  const { signal } = context;
  const text = h("textarea", { id: "jobfile", class: "mono", spellcheck: false, wrap: "off", "aria-label": "Job file", "aria-describedby": "problems", placeholder: "Paste a job file here, or drop one anywhere on this page.", autocomplete: "off" });
  const gutter = h("div", { class: "gutter mono", "aria-hidden": "true" });
  const marks = h("div", { class: "marks mono", "aria-hidden": "true" });
  const editor = h("div", { class: "editor" }, gutter, h("div", { class: "sheet" }, marks, text));
  const file = h("input", { type: "file", accept: ".yaml,.yml,.json,.txt", class: "unseen", tabIndex: -1, "aria-label": "A job file of this computer" });
  const folder = h("input", { type: "text", id: "folder", autocomplete: "off", spellcheck: false, placeholder: "/films/sq140", "aria-describedby": "folder-note" });
  const id = h("input", { type: "text", id: "id", autocomplete: "off", spellcheck: false, maxLength: 1000, placeholder: "made of its name", "aria-describedby": "id-note" });
  const idNote = h("p", { id: "id-note", class: "note soft", role: "status" });
  const start = h("button", { type: "button", class: "btn main start", disabled: true, title: "Start the job (Ctrl+Enter)" }, "Start");
  const status = h("span", { class: "soft plan-status", role: "status" });
  const problems = h("div", { id: "problems", role: "status", "aria-live": "polite" });
  const plan = h("div", { class: "plan live" });
  let isHelios = false;
  let asked = 0;
  /** @type {AbortController | null} */
  let asking = null;

  fill(
    root,
    h(
      "div",
      { class: "submit" },
      h(
        "section",
        { class: "panel sec" },
        h("header", {}, h("h1", {}, "Submit a job"), h("span", { class: "sp" },
          h("button", { type: "button", class: "btn", on: { click: () => use(EXAMPLE, "") } }, "Example"),
          h("button", { type: "button", class: "btn", on: { click: () => file.click() } }, icon("M10 13.5V4M6 8l4-4 4 4M4 16h12"), "Choose a file"), file)),
        editor,
        problems,
      ),
      h(
        "div",
        { class: "side" },
        h(
          "section",
          { class: "panel sec fields", "aria-label": "Start" },
          h("label", { htmlFor: "folder" }, "Folder"),
          folder,
          h("p", { id: "folder-note", class: "note soft" }, "Relative paths start from it, and the job's files go there. Not needed where the job file names base_dir or a store."),
          h("label", { htmlFor: "id" }, "Id"),
          id,
          idNote,
          h("div", { class: "row start-row" }, start, status),
        ),
        h("section", { class: "panel sec", "aria-label": "Plan" }, h("header", {}, h("h2", {}, "Plan"), h("span", { class: "faint" }, "what would be rendered; nothing is started")), plan),
      ),
    ),
    h("div", { class: "drop", "aria-hidden": "true" }, h("b", {}, "Drop the job file here")),
  );

  // ---- The sheet

  const draft = remember(DRAFT_KEY);
  folder.value = context.params.get("folder") ?? remember(FOLDER_KEY);
  text.value = context.params.has("example") ? EXAMPLE : draft;
  text.addEventListener("scroll", placeMarks, { passive: true });
  text.addEventListener("input", () => (keep(DRAFT_KEY, text.value), number(), planSoon()));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) (event.preventDefault(), start.click());
  });
  for (const field of [folder, id]) field.addEventListener("input", () => (keep(FOLDER_KEY, folder.value), planSoon()));
  file.addEventListener("change", () => file.files?.[0] && void open(file.files[0]));
  start.addEventListener("click", () => void submit());

  /** @param {string} content @param {string} name */
  function use(content, name) {
    text.value = content;
    isHelios = /\.json$/i.test(name);
    keep(DRAFT_KEY, content);
    number();
    void showPlan();
    text.setSelectionRange(0, 0);
    text.scrollTo(0, 0);
  }

  /** @param {File} dropped */
  async function open(dropped) {
    if (dropped.size > LARGEST_BYTES) return context.toast(`${dropped.name} is no job file`, { kind: "error", detail: `It has ${bytes(dropped.size)}; a job file has at most ${bytes(LARGEST_BYTES)}.` });
    use(await dropped.text(), dropped.name);
    context.announce(`${dropped.name} was taken`);
  }

  let inside = 0;
  /** @param {DragEvent} event */
  const hasFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragenter", (event) => hasFile(event) && (event.preventDefault(), root.classList.toggle("dragging", ++inside > 0)), { signal });
  addEventListener("dragleave", (event) => hasFile(event) && root.classList.toggle("dragging", --inside > 0), { signal });
  addEventListener("dragover", (event) => hasFile(event) && event.preventDefault(), { signal });
  addEventListener("drop", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    inside = 0;
    root.classList.remove("dragging");
    const dropped = event.dataTransfer?.files[0];
    if (dropped) void open(dropped);
  }, { signal });

  /** @type {Map<number, string>} messages by line */
  let wrong = new Map();

  function number() {
    const lines = text.value.split("\n").length;
    fill(gutter, h("div", { class: "numbers" }, Array.from({ length: Math.min(lines, 20_000) }, (_, index) => h("div", { class: wrong.has(index) ? "wrong" : "" }, index + 1))));
    placeMarks();
  }

  function placeMarks() {
    const numbers = /** @type {HTMLElement|null} */ (gutter.firstElementChild);
    if (numbers) numbers.style.transform = `translateY(${-text.scrollTop}px)`;
    marks.style.transform = `translate(${-text.scrollLeft}px, ${-text.scrollTop}px)`;
  }

  function markLines() {
    const lines = text.value.split("\n");
    fill(marks, [...wrong].map(([line, message]) => h("div", { class: "mark-line", style: { "--line": line } }, h("span", { class: "pad-text" }, lines[line] ?? ""), h("span", { class: "says" }, message))));
    number();
  }

  /** @param {number} line */
  function goTo(line) {
    const lines = text.value.split("\n");
    const from = lines.slice(0, line).join("\n").length + (line ? 1 : 0);
    text.focus();
    text.setSelectionRange(from, from + (lines[line]?.length ?? 0));
    const height = text.scrollHeight / lines.length;
    text.scrollTop = Math.max(0, line * height - text.clientHeight / 3);
  }

  // ---- Plan

  let timer = 0;
  function planSoon() {
    clearTimeout(timer);
    start.disabled = true;
    setText(status, text.value.trim() ? "looking …" : "");
    timer = window.setTimeout(() => void showPlan(), PLAN_AFTER_MS);
  }

  const sent = () => ({ text: text.value, type: isHelios || /^\s*[{[]/.test(text.value) ? "application/json" : "application/yaml" });

  async function showPlan() {
    clearTimeout(timer);
    asking?.abort();
    if (!text.value.trim()) {
      wrong = new Map();
      markLines();
      fill(problems);
      setText(status, "");
      start.disabled = true;
      fill(plan, h("p", { class: "soft" }, "Chunks, frames, films and the first command stand here as soon as there is a job file."));
      return;
    }
    const mine = ++asked;
    asking = new AbortController();
    setText(status, "looking …");
    try {
      const facts = await api.get("/plan", { method: "POST", ...sent(), query: { base_dir: folder.value.trim() }, signal: asking.signal });
      if (mine !== asked || signal.aborted) return;
      showProblems([]);
      fill(plan, planTable(facts, () => folder.focus()));
      start.disabled = !context.can("submit");
      setText(status, context.can("submit") ? "" : "you may look, and not submit");
      void checkId();
    } catch (error) {
      if (mine !== asked || signal.aborted || asking.signal.aborted) return;
      setText(status, "");
      start.disabled = true;
      if (error instanceof api.Problem && error.status < 500 && error.status > 0) {
        const found = error.errors.length ? error.errors : [{ field: "", message: error.message }];
        showProblems(found);
        fill(plan, h("p", { class: "soft" }, found.length === 1 ? "There is no plan until the job file is mended." : `There is no plan until ${counted(found.length, "key")} are mended.`));
      } else fill(plan, h("p", { class: "soft" }, error instanceof Error ? error.message : String(error)));
    }
  }

  /** @param {Array<{field: string, message: string, line?: number}>} found */
  function showProblems(found) {
    wrong = new Map();
    const items = found.map(({ field, message, line }) => {
      const at = line !== undefined ? line - 1 : field ? findLine(text.value, field) : lineOfMessage(message);
      const words = field ? `${field}: ${message}` : message;
      if (at !== null) wrong.set(at, wrong.has(at) ? `${wrong.get(at)}; ${words}` : words);
      const isFolder = field === "base_dir" && at === null;
      return h("li", {}, h("i", { class: "mark", "aria-hidden": "true" }), h("span", { class: "grow" }, field && h("b", { class: "mono" }, field, " "), message),
        at !== null && h("button", { type: "button", class: "btn", on: { click: () => goTo(at) } }, `Line ${at + 1}`),
        isFolder && h("button", { type: "button", class: "btn", on: { click: () => folder.focus() } }, "Name the folder"));
    });
    fill(problems, items.length ? h("ul", { class: "problems" }, items) : null);
    text.setAttribute("aria-invalid", String(items.length > 0));
    folder.classList.toggle("wrong", found.some((one) => one.field === "base_dir") && ![...wrong.values()].some((words) => words.startsWith("base_dir")));
    markLines();
  }

  let idAsked = 0;
  /** Say whether a job of this id is there already. */
  async function checkId() {
    const name = id.value.trim();
    const mine = ++idAsked;
    if (!name) return fill(idNote);
    try {
      const job = await api.get(api.job(name), { signal });
      if (mine === idAsked) fill(idNote, jobPill(job), " ", h("a", { class: "link", href: `/jobs/${encodeURIComponent(name)}` }, "A job of this id is there"), ". If it is the same job nothing is started twice; another one is refused.");
    } catch {
      if (mine === idAsked) fill(idNote);
    }
  }

  async function submit() {
    if (start.disabled) return;
    start.disabled = true;
    setText(status, "starting …");
    try {
      const answer = await api.ask("/jobs", { ...sent(), query: { id: id.value.trim(), base_dir: folder.value.trim() }, signal });
      const job = await answer.json();
      forget(DRAFT_KEY);
      context.toast(answer.status === 200 ? `${job.name || job.id} was there already` : `${job.name || job.id} is started`, { kind: "good", detail: answer.status === 200 ? "It is the same job under the same id: nothing was started twice." : undefined });
      context.navigate(`/jobs/${encodeURIComponent(job.id)}`);
    } catch (error) {
      if (signal.aborted) return;
      setText(status, "");
      start.disabled = false;
      const problem = error instanceof api.Problem ? error : null;
      if (problem?.status === 409) {
        const name = id.value.trim();
        fill(idNote, h("b", { class: "bad" }, "Another job has this id. "), problem.message, " ", name && h("a", { class: "link", href: `/jobs/${encodeURIComponent(name)}` }, "Open that job"), name && ", or choose another id.");
        id.focus();
      } else if (problem?.errors.length) showProblems(problem.errors);
      else context.toastProblem("The job was not started", error);
    }
  }

  context.keys([{ keys: ["/"], label: "To the job file", group: "Submit", run: () => text.focus() }]);
  number();
  void showPlan();
  return () => (clearTimeout(timer), asking?.abort());
}

/**
 * @param {{facts: Record<string, any>, films: string[], command: string[], warnings: string[]}} answer facts as
 *   `longtake plan --json` writes them
 * @param {() => void} onFolder
 */
function planTable({ facts, films, command, warnings }, onFolder) {
  const chunk = (/** @type {any} */ one) => (one ? `${counted(one.stop - one.start, "frame")} from ${count(one.start)}: ${one.first_output}${one.last_output && one.last_output !== one.first_output ? ` to ${one.last_output}` : ""}` : null);
  /** @type {Array<[string, any]>} */
  const rows = [
    ["Name", facts.name],
    ["Frames", facts.total_frames !== undefined && `${count(facts.total_frames)}${facts.fps ? ` at ${facts.fps} a second${typeof facts.fps === "number" ? `, ${duration(facts.total_frames / facts.fps)} of film` : ""}` : ""}`],
    ["Chunks", facts.total_chunks !== undefined && `${count(facts.total_chunks)}${facts.max_parallel ? `, at most ${count(facts.max_parallel)} at once` : ""}`],
    ["First chunk", chunk(facts.first_chunk)],
    ["Last chunk", facts.total_chunks > 1 && chunk(facts.last_chunk)],
    [films.length > 1 ? "Films" : "Film", films.length ? films.map((film) => h("div", { class: "mono" }, film)) : facts.total_chunks !== undefined && "none: the chunks stay as they are"],
    ["Store", facts.store && h("span", { class: "mono" }, facts.store)],
    ["Inputs", facts.inputs?.files ? `${counted(facts.inputs.files, "file")}, ${bytes(facts.inputs.size_bytes)}` : null],
    ["Rendered on", facts.remote?.where],
    ["Cost at most", facts.remote?.most_usd !== undefined && facts.remote ? `${facts.remote.most_usd.toFixed(2)} USD` : null],
  ];
  return [
    warnings.length ? h("ul", { class: "problems warn" }, warnings.map((one) => h("li", {}, h("i", { class: "mark", "aria-hidden": "true" }), h("span", { class: "grow" }, one),
      one.startsWith("base_dir") && h("button", { type: "button", class: "btn", on: { click: onFolder } }, "Name the folder")))) : null,
    h("dl", { class: "pairs" }, rows.filter(([, value]) => value).map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)])),
    command.length ? [h("h3", { class: "command-head" }, "First command"), copyable(command.map(quote).join(" "), "first command")] : null,
  ];
}

/** As a shell would need it. @param {string} word */
const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`);

/** @param {string} key */
function remember(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} key @param {string} value */
function keep(key, value) {
  try {
    if (value.length < 200_000) localStorage.setItem(key, value);
  } catch {
    // A draft that is not kept is typed again.
  }
}

/** @param {string} key */
function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // As above.
  }
}
