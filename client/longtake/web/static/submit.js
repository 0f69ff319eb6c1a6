import { h } from "./dom.js";

/** @param {HTMLElement} root @param {import("./app.js").Context} context */
export function mount(root, context) {
  context.title("Submit a job");
  root.append(h("h1", {}, "Submit a job"));
}
