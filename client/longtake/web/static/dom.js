// Make elements out of data. Text is set as text and never parsed, so names and logs cannot become markup.

/**
 * Make an element. Keys of `properties`: `class`, `dataset`, `on` ({click: fn}), `style` ({width: "3%"}, custom
 * properties too); other names are properties of the element where it has them, and attributes else. Values that are
 * null, undefined or false are left out. Children are nodes, text, numbers, or arrays of these.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} [properties]
 * @param {...any} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "style") setStyle(element, value);
    else if (name === "on") for (const [type, fn] of Object.entries(value)) element.addEventListener(type, fn);
    else if (name in element && !name.startsWith("aria-") && name !== "list") /** @type {any} */ (element)[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

/** @param {Element} parent @param {any[]} children */
function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(parent, child);
    else parent.append(child instanceof Node ? child : String(child));
  }
}

/** Set styles through the CSSOM, which the content security policy allows. @param {HTMLElement|SVGElement} element @param {Record<string, any>} style */
export function setStyle(element, style) {
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, String(value));
}

/** Put these children in place of all there are. @param {Element} parent @param {...any} children */
export function fill(parent, ...children) {
  parent.textContent = "";
  append(parent, children);
}

/** Set text only where it differs: text that is written anew loses the user's selection. @param {Element} element @param {any} text */
export function setText(element, text) {
  const next = String(text ?? "");
  if (element.textContent !== next) element.textContent = next;
}

/**
 * A small line drawing of 20 by 20, by its path.
 * @param {string} path
 */
export function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/**
 * Colours of style.css as a canvas takes them, in the theme that is on. Ask again on the document's `themechange`.
 * @param {...string} names names of custom properties without their dashes: "done", "run"
 * @returns {Record<string, string>}
 */
export function readColours(...names) {
  const probe = document.body.appendChild(h("i", { hidden: true }));
  /** @type {Record<string, string>} */
  const colours = {};
  for (const name of names) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return colours;
}

/** Whether the user wants things to stand still. */
export const wantsStillness = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Call `fn` at most once a frame of the screen, with the arguments of the last call.
 * @template {any[]} A
 * @param {(...args: A) => void} fn
 * @returns {(...args: A) => void}
 */
export function oncePerFrame(fn) {
  /** @type {A | null} */
  let waiting = null;
  return (...args) => {
    if (waiting === null) {
      requestAnimationFrame(() => {
        const last = /** @type {A} */ (waiting);
        waiting = null;
        fn(...last);
      });
    }
    waiting = args;
  };
}
