// The shell: which page an address shows, whether the farm answers, the header, and what pages are given.

import * as api from "./api.js";
import { fill, h, setText } from "./dom.js";
import * as format from "./format.js";
import { announce, bindKeys, confirm, openMenu, showKeys, toast, toastProblem } from "./ui.js";

/**
 * What a page is mounted with. `mount(root, context)` fills `root`, and returns what takes it away again.
 * @typedef {object} Context
 * @property {string} id of the job, "" elsewhere
 * @property {URLSearchParams} params of the address
 * @property {typeof api} api
 * @property {Me | null} me
 * @property {(what: "look"|"steer"|"submit") => boolean} can
 * @property {(address: string, options?: {replace?: boolean}) => void} navigate
 * @property {(values: Record<string, string|number|null>, options?: {replace?: boolean}) => void} setParams
 *   change the query of the address, with the page as it is; null takes a key away
 * @property {(fn: (params: URLSearchParams) => void) => void} onParams called when back and forward change the query
 * @property {typeof toast} toast
 * @property {typeof toastProblem} toastProblem
 * @property {typeof confirm} confirm
 * @property {typeof openMenu} openMenu
 * @property {typeof announce} announce
 * @property {(bindings: import("./ui.js").Binding[]) => void} keys bound until the page is left
 * @property {(text: string) => void} title of the window
 * @property {AbortSignal} signal aborted when the page is left
 */
/** @typedef {{role: string, name: string, by: string, can: string[], version: string, login: boolean, temporal: {address: string, namespace: string, ui: string|null}}} Me */
/** @typedef {{mount: (root: HTMLElement, context: Context) => void | (() => void) | Promise<void | (() => void)>}} Page */

/** @type {Array<[RegExp, string, () => Promise<Page>]>} */
const ROUTES = [
  [/^\/(?:jobs\/?)?$/, "jobs", () => import("./jobs.js")],
  [/^\/jobs\/([^/]+)\/?$/, "job", () => import("./job.js")],
  [/^\/farm\/?$/, "farm", () => import("./farm.js")],
  [/^\/submit\/?$/, "submit", () => import("./submit.js")],
  [/^\/login\/?$/, "login", () => import("./login.js")],
];

const main = /** @type {HTMLElement} */ (document.getElementById("main"));

/** @type {Me | null} */
let me = null;
/** @type {() => void} */
let leave = () => {};
/** @type {Set<(params: URLSearchParams) => void>} */
let paramsListeners = new Set();
let shownPath = "";
let visit = 0;

/** @param {string} address @param {{replace?: boolean}} [options] */
export function navigate(address, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  void show();
}

/** @param {Record<string, string|number|null>} values @param {{replace?: boolean}} [options] */
function setParams(values, { replace = true } = {}) {
  const url = new URL(location.href);
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") url.searchParams.delete(key);
    else url.searchParams.set(key, String(value));
  }
  if (url.href !== location.href) history[replace ? "replaceState" : "pushState"](null, "", url);
}

async function show() {
  const path = location.pathname;
  if (path === shownPath) {
    for (const fn of paramsListeners) fn(new URLSearchParams(location.search));
    return;
  }
  const first = shownPath === "";
  shownPath = path;
  const mine = ++visit;
  leave();
  leave = () => {};
  paramsListeners = new Set();
  // It was that of the job that is left; another page asks anew.
  api.connection.regain("store");
  const found = ROUTES.map(([pattern, name, load]) => ({ match: pattern.exec(path), name, load })).find((one) => one.match);
  for (const link of document.querySelectorAll("#nav a")) {
    const page = /** @type {HTMLElement} */ (link).dataset.page;
    if (page === found?.name || (page === "jobs" && found?.name === "job")) link.setAttribute("aria-current", page === found?.name ? "page" : "true");
    else link.removeAttribute("aria-current");
  }
  const root = h("div", { class: `page page-${found?.name ?? "none"}` });
  fill(main, root);
  if (!first) scrollTo(0, 0);
  if (!found?.match) {
    showLost(root, "There is no such page", "The address may be cut off.");
    return;
  }
  const leaving = new AbortController();
  /** @type {Array<() => void>} */
  const undo = [() => leaving.abort()];
  leave = () => undo.splice(0).forEach((fn) => fn());
  const title = (/** @type {string} */ text) => {
    document.title = text ? `${text} · Longtake` : "Longtake";
    if (!first) announce(text || "Longtake");
  };
  /** @type {Context} */
  const context = {
    id: found.match[1] ? decodeId(found.match[1]) : "",
    params: new URLSearchParams(location.search),
    api,
    me,
    can: (what) => me === null || me.can.includes(what),
    navigate,
    setParams: (...given) => void (mine === visit && setParams(...given)),
    onParams: (fn) => void paramsListeners.add(fn),
    toast,
    toastProblem,
    confirm,
    openMenu,
    announce,
    keys: (bindings) => void undo.push(bindKeys(bindings)),
    title,
    signal: leaving.signal,
  };
  try {
    const page = await found.load();
    if (mine !== visit) return;
    const unmount = await page.mount(root, context);
    if (typeof unmount === "function") mine === visit ? undo.push(unmount) : unmount();
  } catch (error) {
    if (mine !== visit) return;
    console.error(error);
    showLost(root, "This page could not be shown", error instanceof Error ? error.message : String(error));
  }
  if (mine !== visit) return;
  root.dataset.ready = "";
  if (!first) main.focus({ preventScroll: true });
}

/** @param {string} text */
function decodeId(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // A per cent sign that was not encoded.
  }
}

/** @param {HTMLElement} root @param {string} title @param {string} detail */
function showLost(root, title, detail) {
  document.title = `${title} · Longtake`;
  fill(root, h("section", { class: "panel empty" }, h("h1", {}, title), h("p", { class: "soft" }, detail), h("p", {}, h("a", { class: "btn", href: "/" }, "All jobs"))));
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a") : null;
  if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
  if (!ROUTES.some(([pattern]) => pattern.test(link.pathname))) return;
  event.preventDefault();
  navigate(link.pathname + link.search + link.hash);
});
addEventListener("popstate", () => void show());
document.addEventListener("loginneeded", () => {
  if (!location.pathname.startsWith("/login")) navigate(`/login?next=${encodeURIComponent(location.pathname + location.search)}`, { replace: true });
});

// ---- Banners: what does not answer, since when.

const PARTS = {
  server: ["The Longtake server does not answer", "The page asks again by itself."],
  temporal: ["Temporal does not answer", "Jobs go on rendering where workers are; nothing can be steered until it is back."],
  store: ["The store does not answer", "Pictures, logs and files are missing until it is back."],
};

function showBanners() {
  const { away } = api.connection;
  document.documentElement.classList.toggle("stale", away.has("server") || away.has("temporal"));
  document.documentElement.classList.toggle("no-store", away.has("store"));
  const banners = /** @type {HTMLElement} */ (document.getElementById("banners"));
  // Without this server nothing is known of the others.
  const parts = away.has("server") ? ["server"] : [...away.keys()];
  fill(
    banners,
    parts.map((part) => {
      const [title, meaning] = PARTS[/** @type {keyof typeof PARTS} */ (part)];
      const { since, detail } = /** @type {{since: Date, detail: string}} */ (away.get(part));
      return h(
        "div",
        { class: "banner", dataset: { part } },
        h("i", { class: "mark", "aria-hidden": "true" }),
        h("div", {}, h("b", {}, title), " since ", format.time(since), h("span", { class: "soft" }, ` · what was known then is shown, greyed. ${meaning}`), detail && detail !== title && h("div", { class: "faint mono" }, detail)),
      );
    }),
  );
}
api.connection.addEventListener("change", showBanners);

// ---- Header: where this is, and how busy the farm is.

const FACTS_EVERY_MS = 15_000;

async function keepHeader() {
  const facts = /** @type {HTMLElement} */ (document.getElementById("farm-facts"));
  const place = /** @type {HTMLElement} */ (document.getElementById("place"));
  const never = new AbortController().signal;
  for (;;) {
    try {
      me ??= await api.get("/me");
      if (me?.temporal) setText(place, `${me.temporal.namespace} @ ${me.temporal.address}`);
      showCaller();
      if (!document.hidden) {
        const farm = await api.get("/farm");
        const slots = sum(farm.hosts, (host) => host.slots ?? 0);
        const running = sum(farm.hosts, (host) => host.running?.length ?? 0);
        // Workers of older servers do not tell their slots.
        const busy = slots ? `${format.count(running)} of ${format.counted(slots, "slot")} render` : running ? `${format.counted(running, "chunk")} rendering` : `${format.counted(farm.hosts?.length ?? 0, "host")}, idle`;
        setText(facts, farm.hosts?.length ? busy : "no worker");
      }
    } catch {
      // The banner tells; what was known stays.
    }
    await api.pause(FACTS_EVERY_MS, never);
  }
}

/** Who this is, and the way out, where there is anything to log out of. */
function showCaller() {
  const caller = /** @type {HTMLElement} */ (document.getElementById("caller"));
  if (!me?.login || caller.childElementCount) return;
  const leaveButton = h("button", { type: "button", class: "btn", title: `${me.name} may ${me.can.join(", ")}` }, "Log out");
  leaveButton.addEventListener("click", async () => {
    await api.ask("/session", { method: "DELETE" }).catch(() => {});
    location.assign("/login");
  });
  fill(caller, h("span", { class: "soft" }, me.name), leaveButton);
}

/** @param {any[]} items @param {(item: any) => number} size */
const sum = (items, size) => (items ?? []).reduce((total, item) => total + size(item), 0);

// ---- Theme and keys.

const themeButton = /** @type {HTMLElement} */ (document.getElementById("theme"));
function nameTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "Light" : "Dark";
  themeButton.title = `${next} theme (t)`;
  themeButton.setAttribute("aria-label", `${next} theme`);
}
const toggleTheme = () => /** @type {any} */ (window).longtakeTheme.toggle();
themeButton.addEventListener("click", toggleTheme);
document.addEventListener("themechange", nameTheme);
nameTheme();
document.getElementById("help")?.addEventListener("click", () => showKeys());

bindKeys([
  { keys: ["1"], label: "Jobs", run: () => navigate("/") },
  { keys: ["2"], label: "Farm", run: () => navigate("/farm") },
  { keys: ["3"], label: "Submit a job", run: () => navigate("/submit") },
  { keys: ["t"], label: "Light or dark", run: toggleTheme },
  { keys: ["?"], label: "These keys", run: () => void showKeys() },
]);

// Who this is decides which controls pages show; an answer that never comes holds no page up.
await Promise.race([
  api.get("/me").then((answer) => void (me = answer), () => {}),
  new Promise((resolve) => setTimeout(resolve, 1500)),
]);
void show();
void keepHeader();
