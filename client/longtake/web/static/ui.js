// Pieces that every page uses: toasts, dialogs, menus, announcements, keys and their sheet.

import { fill, h } from "./dom.js";

/** @param {string} id */
const place = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Tell a screen reader something that is seen anyway. @param {string} text */
export function announce(text) {
  place("live").textContent = text;
}

/**
 * Say something at the foot of the page for some seconds; errors stay until they are put away.
 * @param {string} text
 * @param {{kind?: "info"|"good"|"error", detail?: string, action?: {label: string, run: () => void}}} [options]
 */
export function toast(text, { kind = "info", detail, action } = {}) {
  const close = () => element.remove();
  const element = h(
    "div",
    { class: "toast", dataset: { kind } },
    h("i", { class: "mark", "aria-hidden": "true" }),
    h("div", { class: "grow" }, h("b", {}, text), detail && h("div", { class: "soft" }, detail)),
    action && h("button", { class: "btn", type: "button", on: { click: () => (close(), action.run()) } }, action.label),
    h("button", { class: "btn icon bare", type: "button", "aria-label": "Put away", on: { click: close } }, "×"),
  );
  const toasts = place("toasts");
  toasts.append(element);
  while (toasts.children.length > 4) toasts.firstElementChild?.remove();
  if (kind !== "error") setTimeout(close, action ? 12_000 : 6_000);
}

/** Say what went wrong with a request. @param {string} what "could not pause film-1" @param {any} error */
export function toastProblem(what, error) {
  if (error?.name === "AbortError") return;
  toast(what, { kind: "error", detail: error?.message ?? String(error) });
}

/**
 * Ask before something that cannot be taken back. Escape and a click beside it say no.
 * @param {{title: string, body?: any, action: string, danger?: boolean, cancel?: string}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, body, action, danger = false, cancel = "Leave as it is" }) {
  return new Promise((resolve) => {
    const yes = h("button", { class: danger ? "btn danger solid" : "btn main", value: "yes", type: "submit" }, action);
    const no = h("button", { class: "btn", value: "", type: "submit" }, cancel);
    const dialog = openDialog(title, h("form", { method: "dialog" }, body, h("div", { class: "row end" }, no, yes)));
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    (danger ? no : yes).focus();
  });
}

/**
 * Open a dialog; it leaves the page when it closes, and the focus goes back.
 * @param {string} title @param {...any} body
 */
export function openDialog(title, ...body) {
  const back = document.activeElement;
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h("dialog", { class: "dialog panel", "aria-labelledby": "dialog-title" }, heading, ...body);
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
  dialog.addEventListener("close", () => {
    // The browser has put the focus back, and a quick key may have moved it on since.
    const isLost = document.activeElement === document.body || dialog.contains(document.activeElement);
    dialog.remove();
    if (isLost && back instanceof HTMLElement && back.isConnected) back.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Open a menu at a button. Arrows walk through it, Escape and a click elsewhere close it.
 * @param {HTMLElement} anchor
 * @param {Array<{label: string, hint?: string, danger?: boolean, disabled?: boolean, run: () => void}>} items
 * @param {{label?: string}} [options]
 */
export function openMenu(anchor, items, { label = anchor.textContent ?? "" } = {}) {
  const menu = h(
    "div",
    { class: "menu panel", role: "menu", popover: "auto", "aria-label": label },
    items.map((item) =>
      h(
        "button",
        {
          type: "button", role: "menuitem", tabIndex: -1, disabled: item.disabled, class: item.danger ? "danger" : "",
          on: { click: () => (menu.hidePopover(), anchor.focus(), item.run()) },
        },
        h("b", {}, item.label),
        item.hint && h("span", { class: "soft" }, item.hint),
      ),
    ),
  );
  // Part of the page, not of the document: readers find it there, and it goes with the page.
  place("main").append(menu);
  menu.addEventListener("toggle", (event) => {
    const open = /** @type {ToggleEvent} */ (event).newState === "open";
    anchor.setAttribute("aria-expanded", String(open));
    if (!open) menu.remove();
  });
  menu.addEventListener("keydown", (event) => {
    const buttons = /** @type {HTMLButtonElement[]} */ ([...menu.querySelectorAll("button:not(:disabled)")]);
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === "Tab") menu.hidePopover();
    if (event.key === "Escape") anchor.focus();
    if (to === undefined) return;
    event.preventDefault();
    buttons[(to + buttons.length) % buttons.length]?.focus();
  });
  anchor.setAttribute("aria-haspopup", "menu");
  menu.showPopover();
  const box = anchor.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const below = box.bottom + 4 + height <= innerHeight;
  menu.style.left = `${Math.max(8, Math.min(box.right - width, innerWidth - width - 8))}px`;
  menu.style.top = `${Math.max(8, below ? box.bottom + 4 : box.top - 4 - height)}px`;
  /** @type {HTMLElement|null} */ (menu.querySelector("button:not(:disabled)"))?.focus();
  return menu;
}

/**
 * The same words wherever a pause is chosen.
 * @param {{running?: number, frames?: number, about?: string}} [now] what that means at this moment: chunks that render,
 *   their frames to go, and how long these take, as in "up to 6 min"
 * @returns {Array<{mode: "drain"|"freeze"|"now", label: string, hint: string}>}
 */
export function pauseModes({ running = 0, frames = 0, about = "" } = {}) {
  const one = running === 1;
  const chunks = running ? `${running} ${one ? "chunk" : "chunks"}` : "";
  const left = [frames ? `${frames} ${frames === 1 ? "frame" : "frames"} to go` : "", about].filter(Boolean).join(", ");
  const drained = chunks ? `${chunks} that ${one ? "renders is" : "render are"} finished first` : "What renders is finished first";
  return [
    { mode: "drain", label: "Drain", hint: `${drained}${left && chunks ? `: ${left}` : ""}. Nothing is lost.` },
    { mode: "freeze", label: "Freeze", hint: `${chunks || "What renders"} ${one || !chunks ? "stands" : "stand"} still within 2 s, ${one || !chunks ? "keeps" : "keep"} slots and memory, and ${one || !chunks ? "goes" : "go"} on from there.` },
    { mode: "now", label: "Now", hint: `${chunks || "What renders"} ${one || !chunks ? "is" : "are"} stopped. Whole frames stay; begun ones are rendered again.` },
  ];
}

/** @typedef {{keys: string[], label: string, group?: string, run: (event: KeyboardEvent) => void}} Binding */

/** @type {Set<Binding[]>} */
const bound = new Set();

/**
 * Bind keys until the returned function is called. Keys are those of `KeyboardEvent.key`; later ones win.
 * @param {Binding[]} bindings
 */
export function bindKeys(bindings) {
  bound.add(bindings);
  return () => void bound.delete(bindings);
}

/** @param {EventTarget|null} target */
const isTyping = (target) =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) &&
  !(target instanceof HTMLInputElement && /^(checkbox|radio|button|range)$/.test(target.type));

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (document.querySelector("dialog[open], .menu")) return;
  // Enter and space belong to the button or link that has the focus.
  const pressable = event.target instanceof Element && event.target.closest("button, a[href], summary");
  if (pressable && (event.key === "Enter" || event.key === " ")) return;
  for (const bindings of [...bound].reverse()) {
    const binding = bindings.find((one) => one.keys.includes(event.key));
    if (!binding) continue;
    event.preventDefault();
    binding.run(event);
    return;
  }
});

const SHOWN = { " ": "Space", ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };

/** Show all keys of this page. */
export function showKeys() {
  const groups = new Map();
  for (const binding of [...bound].reverse().flat()) {
    const group = binding.group ?? "Everywhere";
    groups.set(group, [...(groups.get(group) ?? []), binding]);
  }
  const keysOf = (/** @type {Binding} */ binding) =>
    binding.keys.map((key) => h("kbd", {}, SHOWN[/** @type {keyof typeof SHOWN} */ (key)] ?? key));
  const dialog = openDialog(
    "Keys",
    [...groups].map(([group, bindings]) => [
      h("h3", {}, group),
      h("dl", { class: "keys" }, bindings.map((/** @type {Binding} */ one) => [h("dt", {}, keysOf(one)), h("dd", {}, one.label)])),
    ]),
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main", type: "submit" }, "Close")),
  );
  return dialog;
}

/**
 * What stands where there is nothing yet.
 * @param {string} title @param {...any} body
 */
export const emptyState = (title, ...body) => h("div", { class: "empty" }, h("h2", {}, title), ...body);

/** A text to copy, with its button. @param {string} text @param {string} label */
export function copyable(text, label) {
  const button = h("button", { class: "btn copy", type: "button", "aria-label": `Copy ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      fill(button, "Copied");
      setTimeout(() => fill(button, "Copy"), 2000);
    } catch {
      toast("The browser does not let this page copy", { detail: "Select the text, and copy it by keyboard." });
    }
  });
  return h("div", { class: "copyable" }, h("pre", { tabIndex: 0, "aria-label": label }, text), button);
}
