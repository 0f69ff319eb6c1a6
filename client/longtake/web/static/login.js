// Ask who one is: a token becomes a session of this browser.

import * as api from "./api.js";
import { fill, h } from "./dom.js";

/** @param {HTMLElement} root @param {import("./app.js").Context} context */
export function mount(root, context) {
  context.title("Log in");
  const token = h("input", { type: "password", id: "token", autocomplete: "current-password", spellcheck: false, required: true, "aria-describedby": "token-note" });
  const note = h("p", { id: "token-note", class: "soft", role: "status" }, "It was given to you by whoever runs this server; it begins a session that lasts a working day.");
  const button = h("button", { class: "btn main", type: "submit" }, "Log in");
  const form = h(
    "form",
    { class: "panel login", on: { submit: (/** @type {Event} */ event) => (event.preventDefault(), void logIn()) } },
    h("h1", {}, "Log in"),
    h("label", { htmlFor: "token" }, "Token"),
    token,
    note,
    button,
  );
  fill(root, form);
  token.focus();

  async function logIn() {
    button.disabled = true;
    try {
      await api.post("/session", { token: token.value.trim() });
      // All that was asked without a session is asked anew.
      location.assign(safePath(context.params.get("next")));
    } catch (error) {
      fill(note, h("span", { class: "bad" }, error instanceof Error ? error.message : String(error)));
      button.disabled = false;
      token.select();
    }
  }
}

/** An address of this server, whatever a link says. @param {string | null} next */
function safePath(next) {
  const url = new URL(next ?? "/", location.origin);
  return url.origin === location.origin && !url.pathname.startsWith("//") && !/^\/(login|api)\b/.test(url.pathname) ? url.pathname + url.search : "/";
}
