// Pictures of the film as it comes: a strip of every n-th, and the player for what is there.

import { fill, h, oncePerFrame, setText } from "../dom.js";
import { count, counted } from "../format.js";
import { playerButton } from "./player.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {{chunk: number, frame: number, name: string, version?: string}} Picture */

const LEAST_WIDTH = 96;
const GAP = 4;
const LOOK_EVERY_MS = 4000;
// Pictures are made beside the renders, and come a moment after their chunks.
const LOOKS = 3;

/** @param {JobModel} model @param {import("../app.js").Context} context */
export function picturesPanel(model, context) {
  const { api, id, signal } = context;
  const note = h("span", { class: "faint" });
  const strip = h("div", { class: "strip" });
  const screen = h("div", { class: "screen" });
  const element = h("section", { class: "panel sec pictures", "aria-labelledby": "pictures-title" }, h("header", {}, h("h2", { id: "pictures-title" }, "Pictures"), note, h("span", { class: "sp" }, playerButton(model, context, screen))), screen, strip);
  let trouble = "";
  let isRead = false;

  function show() {
    const { pictures } = model;
    const room = Math.max(2, Math.floor((strip.clientWidth + GAP) / (LEAST_WIDTH + GAP)));
    const chosen = pictures.length <= room ? pictures : Array.from({ length: room }, (_, i) => pictures[Math.round((i * (pictures.length - 1)) / (room - 1))]);
    const step = chosen.length > 1 ? Math.round(Math.abs(chosen[chosen.length - 1].frame - chosen[0].frame) / (chosen.length - 1)) : 0;
    setText(note, !chosen.length ? "" : pictures.length <= room ? counted(pictures.length, "picture") : step > 1 ? `about every ${ordinal(step)} frame` : counted(pictures.length, "picture"));
    if (!chosen.length) {
      fill(strip, h("p", { class: "soft strip-empty" }, trouble || (isRead ? whyNone(model) : "…")));
      return;
    }
    const before = new Map([...strip.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, child]));
    fill(strip, chosen.map((picture) => before.get(pictureKey(picture)) ?? makeFrame(picture)));
    light();
  }

  /** @param {Picture} picture */
  function makeFrame(picture) {
    const place = () => (model.layout.isExact ? model.layout.placeOfNumber(picture.frame) : model.layout.placeOf(picture.chunk));
    return h(
      "button",
      {
        type: "button", class: "strip-frame", dataset: { key: pictureKey(picture), chunk: String(picture.chunk) }, "aria-label": `Frame ${picture.frame}`,
        on: { click: () => model.select(place()), pointerenter: () => model.setHover({ source: "strip", place: place(), chunk: picture.chunk }), pointerleave: () => model.setHover(null), focus: () => model.setHover({ source: "strip", place: place(), chunk: picture.chunk }), blur: () => model.setHover(null) },
      },
      h("img", { src: pictureAddress(context, picture), alt: "", loading: "lazy", decoding: "async" }),
      h("span", { class: "strip-number" }, String(picture.frame)),
    );
  }

  /** Mark the picture that is nearest to what is selected, and to what is hovered. */
  function light() {
    const frames = /** @type {HTMLElement[]} */ ([...strip.querySelectorAll(".strip-frame")]);
    const chunks = frames.map((frame) => Number(frame.dataset.chunk));
    const at = (/** @type {number|undefined} */ chunk) => {
      if (chunk === undefined) return -1;
      let best = -1;
      for (const [i, one] of chunks.entries()) if (best < 0 || Math.abs(one - chunk) < Math.abs(chunks[best] - chunk)) best = i;
      return best;
    };
    const selected = at(model.selection?.chunk);
    const hovered = at(model.hover?.chunk);
    frames.forEach((frame, i) => {
      frame.classList.toggle("lit", i === hovered || (!!model.hover && hovered < 0 && model.isLit(chunks[i])));
      frame.classList.toggle("selected", i === selected);
    });
  }

  async function keep() {
    let known = "";
    let looks = 0;
    while (!signal.aborted) {
      const done = model.published;
      if (done !== known) looks = LOOKS;
      known = done;
      if (looks > 0) {
        try {
          const found = await api.get(api.job(id, "pictures"), { signal });
          const list = /** @type {Picture[]} */ (Array.isArray(found) ? found : found.pictures ?? []);
          model.setPictures(list.sort((a, b) => a.frame - b.frame));
          looks--;
          trouble = "";
        } catch (error) {
          if (signal.aborted) return;
          trouble = model.pictures.length ? "" : `The store is not visible from here: ${/** @type {Error} */ (error).message}`;
        }
        isRead = true;
        show();
      }
      await api.pause(LOOK_EVERY_MS, signal);
    }
  }

  model.on("hover select", oncePerFrame(light), signal);
  model.on("document", show, signal);
  const watcher = new ResizeObserver(oncePerFrame(show));
  watcher.observe(strip);
  signal.addEventListener("abort", () => watcher.disconnect());
  void keep();
  return element;
}

/** Where a picture is. @param {import("../app.js").Context} context @param {Picture} picture */
export const pictureAddress = ({ api, id }, picture) => api.address(api.job(id, "pictures", picture.name), picture.version ? { v: picture.version } : {});

/** Why there are no pictures. @param {JobModel} model */
function whyNone(model) {
  if (model.document?.pictures === "none") return ["None are made: the job says ", h("code", {}, "pictures: none"), "."];
  if (!model.status.completed_frames) return "Nothing is rendered yet: the first picture comes with the first chunk that is done.";
  return "None are there: what is rendered are no pictures that can be shown, or an older worker made it.";
}

/** @param {Picture} picture */
const pictureKey = ({ name, version }) => `${name} ${version ?? ""}`;

/** @param {number} value */
const ordinal = (value) => `${count(value)}${value % 100 > 10 && value % 100 < 14 ? "th" : ["th", "st", "nd", "rd"][value % 10] ?? "th"}`;
