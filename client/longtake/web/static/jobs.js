// The jobs page: a live table of all jobs, with a filter, and controls for one or many of them.

import * as api from "./api.js";
import { fill, h, setText } from "./dom.js";
import { count, counted } from "./format.js";
import { EXAMPLE } from "./example.js";
import { isFailing, isOf, isOlder, parseFilter, SORTS, sortJobs, withMine, withStates } from "./jobfilter.js";
import { JobTable } from "./jobtable.js";
import { APPLIES, cancelJobs, openPauseMenu, steer } from "./steer.js";
import { copyable, emptyState } from "./ui.js";

/** @typedef {import("./format.js").JobStatus} JobStatus */
/** @typedef {import("./steer.js").Verb} Verb */

const PAGE = 500;
// Changes come by events; what Temporal has forgotten is noticed when the whole list is read anew.
const WHOLE_LIST_EVERY_MS = 600_000;
// Rows keep their places while a pointer moves over them, so that none slips away under a click.
const STILL_MS = 2500;
const SHOW_EVERY_MS = 200;

/** Quick filters by state: label, state, which jobs. @type {Array<[string, string, (job: JobStatus) => boolean]>} */
const TABS = [
  ["Running", "running", (job) => job.state === "running"],
  ["Failing", "failing", isFailing],
];

/** @param {HTMLElement} root @param {import("./app.js").Context} context */
export function mount(root, context) {
  context.title("Jobs");
  const { signal } = context;
  const canSteer = context.can("steer");
  const me = context.me?.by ?? "";
  /** @type {Map<string, JobStatus>} */
  const jobs = new Map();
  /** @type {Set<string>} jobs that an event told while the list was still read */
  const gone = new Set();
  let order = /** @type {JobStatus[]} */ ([]);
  let isLoaded = false;
  let filterText = context.params.get("q") ?? "";
  let sort = context.params.get("sort") ?? "attention";
  let filter = parseFilter(filterText, me);
  let hasOthers = false;
  let anchor = "";
  // Not 0: the page is younger than the time in which its rows would stand still.
  let movedAt = -Infinity;

  // ---- Elements

  const input = h("input", {
    type: "search", id: "filter", value: filterText, autocomplete: "off", spellcheck: false, "aria-keyshortcuts": "/",
    "aria-label": "Filter jobs", "aria-describedby": "filter-note", placeholder: "state:running,failed show:sq140", title: "Filter (/): state:…, show:…, by:…, words; -word leaves out",
  });
  const note = h("p", { id: "filter-note", class: "filter-note soft", role: "status" });
  const all = tab("All", () => setFilter(""));
  const mine = tab("Mine", () => setFilter(withMine(filterText, !filter.isMine)));
  const tabs = TABS.map(([label, state]) => tab(label, () => setFilter(withStates(filterText, isOn(state) ? [] : [state]))));
  const sorts = h(
    "select",
    { class: "phone-sort", "aria-label": "Sort by", on: { change: () => setSort(sorts.value) } },
    [["attention", "Failures first"], ["-created", "Youngest first"], ["eta", "Soonest ready"], ["-progress", "Most done"], ["name", "By name"]].map(([value, label]) => h("option", { value }, label)),
  );
  const selectedText = h("span", { class: "soft nowrap", "aria-live": "polite" });
  const buttons = /** @type {Record<Verb, HTMLButtonElement>} */ ({
    pause: action("Pause", "p", "pause", () => pause()),
    resume: action("Resume", "g", "resume", () => act("resume")),
    retry: action("Retry", "r", "retry", () => act("retry")),
    cancel: action("Cancel", "c", "cancel", () => cancel()),
  });
  buttons.pause.classList.add("more");
  buttons.cancel.classList.add("danger");
  const clear = h("button", { type: "button", class: "btn icon bare", title: "Select none (Esc)", "aria-label": "Select none", on: { click: () => select([]) } }, "×");
  const actions = h("div", { class: "actions", role: "group", "aria-label": "Selected jobs", hidden: true }, selectedText, buttons.pause, buttons.resume, buttons.retry, buttons.cancel, clear);
  const table = new JobTable({ onSort: setSort, onToggle: toggle, onToggleAll: toggleAll, selectable: canSteer });
  const empty = h("div", { class: "none", hidden: true });
  const tools = h("div", { class: "tools" }, input, h("div", { class: "seg tabs", role: "group", "aria-label": "Which jobs" }, all, mine, tabs), sorts, actions);
  const heading = h("h1", { class: "unseen" }, "Jobs");
  fill(root, heading, h("section", { class: "panel joblist", "aria-label": "Jobs" }, tools, note, table.element, empty));
  table.element.hidden = true;
  table.attach(signal);
  table.body.addEventListener("pointermove", () => (movedAt = performance.now()));
  table.body.addEventListener("pointerleave", () => ((movedAt = -Infinity), refresh()));
  input.addEventListener("input", () => setFilter(input.value, true));
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") (input.value && setFilter(""), input.blur());
    else if (event.key === "Enter" || event.key === "ArrowDown") (event.preventDefault(), move(0));
  });

  /** A quick filter, with how many jobs it shows. @param {string} label @param {() => void} run */
  function tab(label, run) {
    return h("button", { type: "button", "aria-pressed": "false", on: { click: run } }, h("span", {}, label), h("span", { class: "faint" }));
  }

  /** @param {HTMLElement} button @param {boolean} isPressed @param {JobStatus[]} shown */
  function showTab(button, isPressed, shown) {
    button.setAttribute("aria-pressed", String(isPressed));
    setText(/** @type {Element} */ (button.lastChild), isLoaded || jobs.size ? count(shown.length) : "");
  }

  /** @param {string} state */
  function isOn(state) {
    return String(filter.states) === state;
  }

  /** @param {string} label @param {string} key @param {Verb} verb @param {() => void} run */
  function action(label, key, verb, run) {
    return h("button", { type: "button", class: "btn", title: `${label} (${key})`, "aria-keyshortcuts": key, dataset: { verb }, on: { click: run } }, label);
  }

  // ---- What is shown

  /** @param {string} text @param {boolean} [isTyped] */
  function setFilter(text, isTyped = false) {
    filterText = text;
    filter = parseFilter(text, me);
    if (!isTyped) input.value = text;
    context.setParams({ q: text.trim() || null });
    movedAt = -Infinity;
    showNow();
  }

  /** @param {string} next */
  function setSort(next) {
    sort = next;
    context.setParams({ sort: next === "attention" ? null : next });
    movedAt = -Infinity;
    showNow();
  }

  let timer = 0;
  function refresh() {
    timer ||= window.setTimeout(showNow, SHOW_EVERY_MS);
  }

  function showNow() {
    clearTimeout(timer);
    timer = 0;
    if (signal.aborted) return;
    const known = [...jobs.values()];
    const shown = known.filter(filter.test);
    if (performance.now() - movedAt < STILL_MS) {
      order = order.flatMap((job) => jobs.get(job.id) ?? []).filter(filter.test);
      const placed = new Set(order.map((job) => job.id));
      order.push(...sortJobs(shown.filter((job) => !placed.has(job.id)), sort));
      refresh();
    } else order = sortJobs(shown, sort in SORTS || sort.slice(1) in SORTS ? sort : "attention");
    for (const id of table.selected) if (!jobs.has(id)) table.selected.delete(id);
    table.show(order, sort);
    if (sorts.value !== sort) sorts.value = sort;
    showSubmitters(known);
    const own = known.filter((job) => isOf(job, me));
    showTab(all, !filter.isMine && !filter.states.length, known);
    showTab(mine, filter.isMine, own);
    TABS.forEach(([, state, test], index) => showTab(tabs[index], isOn(state), (filter.isMine ? own : known).filter(test)));
    setText(note, filter.complaints[0] ?? "");
    note.hidden = !filter.complaints.length;
    showEmpty(known.length);
    showActions();
  }

  /** Whose a job is means something as soon as there are others. @param {JobStatus[]} known */
  function showSubmitters(known) {
    hasOthers ||= new Set(known.map((job) => job.submitted_by).filter(Boolean)).size > 1;
    table.showSubmitters(hasOthers);
    mine.hidden = !filter.isMine && !(me && (hasOthers || known.some((job) => job.submitted_by && !isOf(job, me))));
  }

  /** @param {number} total */
  function showEmpty(total) {
    const state = order.length ? "" : total ? (filter.isMine ? "mine" : "filtered") : isLoaded ? "none" : api.connection.away.size ? "away" : "looking";
    table.element.hidden = state !== "";
    empty.hidden = state === "";
    // Built once: what is being copied stays.
    if (empty.dataset.state === state) return;
    empty.dataset.state = state;
    tools.classList.toggle("idle", state === "none");
    if (state === "filtered") fill(empty, emptyState("No job matches", h("p", { class: "soft" }, "Words must be in the name, the id or the store of a job."), h("button", { type: "button", class: "btn", on: { click: () => setFilter("") } }, "Show all jobs")));
    else if (state === "mine") fill(empty, emptyState("No such job of yours", h("p", { class: "soft" }, `Yours are the jobs that ${me} has submitted, from whichever host.`), h("button", { type: "button", class: "btn", on: { click: () => setFilter("") } }, "Show all jobs")));
    else if (state === "none") fill(empty, teach(context.can("submit")));
    else if (state === "away") fill(empty, emptyState("Nothing is known of jobs yet", h("p", { class: "soft" }, "The list comes by itself as soon as the farm answers.")));
    else if (state === "looking") fill(empty, emptyState("Looking for jobs …"));
  }

  // ---- Selection

  /** Jobs that a control is about: the selected ones, or the one under the cursor. */
  function chosen() {
    if (table.selected.size) return order.filter((job) => table.selected.has(job.id));
    const at = jobs.get(table.cursor);
    return at ? [at] : [];
  }

  /** @param {string[]} ids */
  function select(ids) {
    table.selected.clear();
    for (const id of ids) table.selected.add(id);
    table.draw();
    showActions();
  }

  /** @param {string} id @param {{shiftKey: boolean}} event */
  function toggle(id, event) {
    const from = order.findIndex((job) => job.id === anchor);
    const to = order.findIndex((job) => job.id === id);
    if (event.shiftKey && from >= 0) {
      for (const job of order.slice(Math.min(from, to), Math.max(from, to) + 1)) table.selected.add(job.id);
      getSelection()?.removeAllRanges();
    } else if (!table.selected.delete(id)) table.selected.add(id);
    anchor = id;
    table.cursor = id;
    table.draw();
    showActions();
  }

  function toggleAll() {
    const isAll = order.length > 0 && order.every((job) => table.selected.has(job.id));
    select(isAll ? [] : order.map((job) => job.id));
  }

  function showActions() {
    const selected = order.filter((job) => table.selected.has(job.id));
    actions.hidden = !canSteer || !selected.length;
    root.classList.toggle("has-selection", !actions.hidden);
    setText(selectedText, selected.length ? `${count(selected.length)} selected` : "");
    for (const [verb, button] of Object.entries(buttons)) {
      const applies = selected.filter(APPLIES[/** @type {Verb} */ (verb)]).length;
      button.disabled = !applies;
      const label = button.title.split(" (")[0];
      setText(button, applies && applies < selected.length ? `${label} ${count(applies)}` : label);
    }
  }

  // ---- Steering

  /** Take up what a request was answered. @param {JobStatus} status */
  const learn = (status) => (gone.has(status.id) || isOlder(status, jobs.get(status.id)) || jobs.set(status.id, status), refresh());

  /** @param {Verb} verb */
  function those(verb) {
    if (!canSteer) return [];
    const all = chosen();
    const fit = all.filter(APPLIES[verb]);
    if (!fit.length) context.toast(all.length ? `Nothing to ${verb}: ${all.length === 1 ? "this job is" : "these jobs are"} ${all[0].state}` : "Choose a job first: j and k move, x selects");
    return fit;
  }

  /** @param {"resume"|"retry"} verb */
  function act(verb) {
    const fit = those(verb);
    if (fit.length) void steer(verb, fit, {}, learn);
  }

  async function pause() {
    const fit = those("pause");
    if (!fit.length) return;
    const at = actions.hidden ? table.rows.get(fit[0].id)?.link : buttons.pause;
    openPauseMenu(at ?? input, fit, learn);
    // The list does not know what runs at this moment; for a single job that is asked while one reads.
  }

  function cancel() {
    const fit = those("cancel");
    if (fit.length) void cancelJobs(fit, learn);
  }

  /** @param {number} by */
  function move(by) {
    if (!order.length) return;
    const at = order.findIndex((job) => job.id === table.cursor);
    table.moveTo(order[at < 0 ? 0 : Math.max(0, Math.min(order.length - 1, at + by))].id);
  }

  context.keys([
    { keys: ["j", "ArrowDown"], label: "Next job", group: "Jobs", run: () => move(1) },
    { keys: ["k", "ArrowUp"], label: "Job before", group: "Jobs", run: () => move(-1) },
    { keys: ["Enter"], label: "Open the job", group: "Jobs", run: () => table.cursor && context.navigate(`/jobs/${encodeURIComponent(table.cursor)}`) },
    { keys: ["/"], label: "Filter", group: "Jobs", run: () => (input.focus(), input.select()) },
    ...(canSteer
      ? [
          { keys: ["x"], label: "Select it, or not", group: "Jobs", run: () => table.cursor && toggle(table.cursor, { shiftKey: false }) },
          { keys: ["a"], label: "Select all that are shown", group: "Jobs", run: toggleAll },
          { keys: ["Escape"], label: "Select none", group: "Jobs", run: () => select([]) },
          { keys: ["p"], label: "Pause", group: "Jobs", run: () => void pause() },
          { keys: ["g"], label: "Go on (resume)", group: "Jobs", run: () => act("resume") },
          { keys: ["r"], label: "Retry what failed", group: "Jobs", run: () => act("retry") },
          { keys: ["c"], label: "Cancel", group: "Jobs", run: cancel },
        ]
      : []),
  ]);
  context.onParams((params) => {
    sort = params.get("sort") ?? "attention";
    setFilter(params.get("q") ?? "");
  });

  // ---- Live

  async function load() {
    gone.clear();
    const seen = new Set();
    let after = null;
    do {
      const page = /** @type {any} */ (await api.get("/jobs", { query: { sort: "state", limit: PAGE, after }, signal }));
      for (const job of page.jobs) {
        seen.add(job.id);
        // An event may have told something newer while this page was read.
        const known = jobs.get(job.id);
        if (!gone.has(job.id) && !(known?.heard && isOlder(job, known))) jobs.set(job.id, job);
      }
      after = page.next;
      if (!after) isLoaded = true;
      showNow();
    } while (after && !signal.aborted);
    for (const [id, job] of jobs) if (!seen.has(id) && job.heard !== true) jobs.delete(id);
    showNow();
  }

  async function live() {
    while (!signal.aborted) {
      try {
        await api.follow("/jobs/events", {
          signal,
          onOpen: () => void (isFresh() || keepLoading()),
          onEvent: (name, data) => {
            if (name === "problem") return api.notice(data, "/jobs/events");
            api.connection.regain("temporal");
            if (name === "gone") (jobs.delete(data.id), gone.add(data.id));
            else for (const job of data.jobs ?? [data]) jobs.set(job.id, { ...job, heard: true });
            refresh();
          },
        });
      } catch (error) {
        if (!signal.aborted) context.toastProblem("The list is not live", error);
      }
      await api.pause(5000, signal);
    }
  }

  let loading = false;
  let loadedAt = -Infinity;
  const isFresh = () => performance.now() - loadedAt < WHOLE_LIST_EVERY_MS;
  /** Read the whole list; again a few seconds later where it cannot be read. */
  async function keepLoading() {
    if (loading) return;
    loading = true;
    for (const job of jobs.values()) delete job.heard;
    while (!signal.aborted) {
      try {
        await load();
        loadedAt = performance.now();
        break;
      } catch (error) {
        if (signal.aborted) break;
        showNow();
        await api.pause(2000, signal);
      }
    }
    loading = false;
  }

  const again = setInterval(() => void (document.hidden || isFresh() || keepLoading()), WHOLE_LIST_EVERY_MS / 10);
  void keepLoading();
  void live();
  showNow();
  return () => (clearTimeout(timer), clearInterval(again));
}

/** @param {boolean} canSubmit */
function teach(canSubmit) {
  return emptyState(
    "No job yet",
    h("p", { class: "soft" }, "A job is a file that says which frames there are, and which command renders a chunk of them. This one is whole: ffmpeg draws a test picture, 240 frames in 12 chunks."),
    copyable(EXAMPLE, "film.yaml"),
    h("p", { class: "soft" }, "Start it here, or in a terminal: ", h("code", {}, "longtake submit film.yaml --watch")),
    canSubmit && h("p", {}, h("a", { class: "btn main", href: "/submit?example=1" }, "Try this job")),
  );
}
