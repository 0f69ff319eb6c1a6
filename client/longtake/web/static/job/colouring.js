// How cells of the frame map are coloured: by state, time, host or memory, each with its legend.

import { h, readColours } from "../dom.js";
import { CHUNK_STATES, CHUNK_WORDS, bytes, cell, duration } from "../format.js";
import { DONE, FAILED, LEFT_OUT, TODO } from "./columns.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {"state"|"time"|"host"|"memory"} By */
/** @typedef {{by: By, palette: Uint32Array, css: string[], codeOf: (chunk: number) => number, shapes: boolean, legend: (model: JobModel) => Node[]}} Colouring
 *   `codeOf` gives the place of a chunk's colour in `palette` */

export const BY = /** @type {const} */ ([["state", "State"], ["time", "Time"], ["host", "Host"], ["memory", "Memory"]]);

// A ramp that rises in lightness for every eye (after cividis), from little to much; the dark theme begins lighter.
const RAMP = { light: ["#0b3a7e", "#54678f", "#8a8779", "#c2a94e", "#f2d026"], dark: ["#3a62b0", "#6c7c9c", "#9c967f", "#cdb45a", "#fbe04a"] };
const LEVELS = 48;

// Hues that differ in lightness too (after Okabe and Ito); then again, darker and lighter.
const HOSTS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b7a91b", "#7f7f8f"];
const HOST_SHADES = [0, -0.4, 0.45];

/** @param {string} text @returns {[number, number, number]} of `rgb(…)`, `color(srgb …)` or `#rrggbb` */
function parse(text) {
  if (text.startsWith("#")) return /** @type {any} */ ([1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)));
  const numbers = (text.match(/[\d.]+/g) ?? []).map(Number);
  return /** @type {any} */ (text.startsWith("color") ? numbers.slice(0, 3).map((part) => Math.round(part * 255)) : numbers.slice(0, 3));
}
/** @param {[number, number, number]} a @param {[number, number, number]} b @param {number} share @returns {[number, number, number]} */
const mix = (a, b, share) => /** @type {any} */ (a.map((part, i) => Math.round(part + (b[i] - part) * share)));
/** @param {[number, number, number]} rgb */
const toCss = (rgb) => `rgb(${rgb.join(" ")})`;
/** Bytes of a pixel in the order of ImageData. @param {[number, number, number]} rgb */
const toPixel = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;

const isDark = () => document.documentElement.dataset.theme === "dark";

/** @param {number} share of 1 */
function rampColour(share) {
  const stops = RAMP[isDark() ? "dark" : "light"].map(parse);
  const at = Math.min(0.9999, Math.max(0, share)) * (stops.length - 1);
  return toCss(mix(stops[Math.floor(at)], stops[Math.floor(at) + 1], at % 1));
}

/** The colour of a host by its place among the hosts. @param {number} index from 0 */
function hostColour(index) {
  const shade = HOST_SHADES[Math.floor(index / HOSTS.length) % HOST_SHADES.length];
  const base = parse(HOSTS[index % HOSTS.length]);
  return toCss(shade === 0 ? base : mix(base, shade > 0 ? [255, 255, 255] : [0, 0, 0], Math.abs(shade)));
}

/**
 * Colours of the theme that is on, as a canvas takes them.
 * @typedef {Record<"todo"|"run"|"ice"|"done"|"fail"|"skip"|"panel"|"ink"|"line"|"soft"|"faint", string> & {states: string[]}} Colours
 *   `states` by the numbers of the states
 */
/** @returns {Colours} */
export function stateColours() {
  const of = /** @type {any} */ (readColours("todo", "run", "ice", "done", "fail", "skip", "panel", "ink", "line", "soft", "faint"));
  return { ...of, states: [of.todo, of.run, of.todo, of.ice, of.done, of.fail, of.skip] };
}
/** @param {By} by @param {JobModel} model @param {Colours} colours @returns {Colouring} */
export function makeColouring(by, model, colours) {
  const of = { time: byTime, host: byHost, memory: byMemory, state: byState }[by] ?? byState;
  const { css, codeOf, legend } = of(model, colours);
  return { by, css, palette: Uint32Array.from(css, (text) => toPixel(parse(text))), codeOf, shapes: by === "state", legend };
}

/** @param {JobModel} model @param {Colours} colours */
function byState(model, colours) {
  return {
    css: colours.states,
    codeOf: (/** @type {number} */ chunk) => model.state[chunk],
    legend: () => CHUNK_STATES.map((state, i) => ({ state, i })).sort((a, b) => ORDER[a.i] - ORDER[b.i]).map(({ state }) => h("span", {}, cell(state), CHUNK_WORDS[state])),
  };
}
const ORDER = [6, 1, 3, 4, 0, 2, 5];

/** Codes of chunks that have no value to show. @param {JobModel} model @param {Colours} colours */
function unmeasured(model, colours) {
  const panel = parse(colours.panel);
  const css = [colours.todo, mixCss(colours.run, panel, 0.35), colours.todo, mixCss(colours.ice, panel, 0.35), colours.skip, colours.fail, toCss(mix(parse(colours.skip), panel, 0.4))];
  return { css, codeOf: (/** @type {number} */ chunk) => model.state[chunk] };
}
/** @param {string} colour @param {[number, number, number]} with_ @param {number} share */
const mixCss = (colour, with_, share) => toCss(mix(parse(colour), with_, share));

/**
 * @param {JobModel} model @param {Colours} colours @param {(chunk: number) => number} valueOf
 * @param {import("./columns.js").Measure} measured @param {(value: number) => string} words
 */
function byValue(model, colours, valueOf, measured, words) {
  const rest = unmeasured(model, colours);
  const least = measured.least;
  const span = Math.max(measured.p99 - least, 1e-9);
  const ramp = Array.from({ length: LEVELS }, (_, i) => rampColour(i / (LEVELS - 1)));
  return {
    css: [...rest.css, ...ramp],
    codeOf(/** @type {number} */ chunk) {
      const value = valueOf(chunk);
      if (!(value > 0) || model.state[chunk] !== DONE) return rest.codeOf(chunk);
      return rest.css.length + Math.min(LEVELS - 1, Math.max(0, Math.floor(((value - least) / span) * LEVELS)));
    },
    legend: () =>
      measured.count
        ? [h("span", {}, words(least), h("i", { class: "ramp", style: { background: `linear-gradient(90deg, ${ramp.join(",")})` } }), `${words(measured.p99)} and more`), h("span", { class: "faint" }, `half in ${words(measured.p50)}, 95 % in ${words(measured.p95)}`)]
        : [h("span", { class: "faint" }, "nothing is measured yet")],
  };
}

/** @param {JobModel} model @param {Colours} colours */
const byTime = (model, colours) => byValue(model, colours, (chunk) => model.secondsOf(chunk), model.measures.seconds, duration);
/** @param {JobModel} model @param {Colours} colours */
const byMemory = (model, colours) => byValue(model, colours, (chunk) => model.columns.memory[chunk], model.measures.memory, bytes);

/** @param {JobModel} model @param {Colours} colours */
function byHost(model, colours) {
  const rest = unmeasured(model, colours);
  const { hosts } = model.columns;
  const shown = Math.min(hosts.length, 200);
  return {
    css: [...rest.css, ...Array.from({ length: Math.max(1, shown) }, (_, i) => hostColour(i))],
    codeOf(/** @type {number} */ chunk) {
      const host = model.columns.host[chunk];
      const state = model.state[chunk];
      return host && state !== TODO && state !== FAILED && state !== LEFT_OUT ? rest.css.length + ((host - 1) % shown) : rest.codeOf(chunk);
    },
    legend: (/** @type {JobModel} */ model) => {
      const spans = hosts.slice(0, 24).map((host, i) =>
        h("span", { on: { pointerenter: () => model.setHover({ source: "legend", host }), pointerleave: () => model.setHover(null) } }, h("i", { class: "cell", style: { background: hostColour(i) } }), host),
      );
      return hosts.length > 24 ? [...spans, h("span", { class: "faint" }, `and ${hosts.length - 24} more`)] : hosts.length ? spans : [h("span", { class: "faint" }, "no host has finished a chunk yet")];
    },
  };
}
