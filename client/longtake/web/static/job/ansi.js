// Lines of a log as elements: colours of terminals become classes, all other control sequences are dropped.

import { h } from "../dom.js";

// CSI and OSC sequences, other escapes, and controls but tab.
const CONTROL = /\u001b\[([0-9;:]*)([@-~])|\u001b\[[^@-~]*[@-~]?|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-~]?|[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

const NAMES = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

/** How text is written now. */
export class Style {
  colour = "";
  bold = false;
  dim = false;

  get classes() {
    return [this.colour && `a-${this.colour}`, this.bold && "a-bold", this.dim && "a-dim"].filter(Boolean).join(" ");
  }

  /** @param {string} parameters of a sequence that ends in m */
  apply(parameters) {
    const codes = parameters.split(/[;:]/).map(Number);
    for (let i = 0; i < codes.length; i++) {
      const code = codes[i];
      if (code === 0) Object.assign(this, { colour: "", bold: false, dim: false });
      else if (code === 1) this.bold = true;
      else if (code === 2) this.dim = true;
      else if (code === 22) this.bold = this.dim = false;
      else if (code >= 30 && code <= 37) this.colour = NAMES[code - 30];
      else if (code >= 90 && code <= 97) this.colour = NAMES[code - 90];
      else if (code === 39) this.colour = "";
      else if (code === 38 || code === 48) {
        // 256 colours and true colour: the sixteen first are named, others stay plain.
        if (code === 38) this.colour = codes[i + 1] === 5 && codes[i + 2] < 16 ? NAMES[codes[i + 2] % 8] : "";
        i += codes[i + 1] === 5 ? 2 : 4;
      }
    }
  }
}

/**
 * One line as spans. A line that was written over with carriage returns shows what was written last.
 * @param {string} text @param {Style} style is changed, and goes on in the next line
 * @returns {Node[]}
 */
export function parseLine(text, style) {
  const parts = text.replace(/\r+$/, "").split("\r");
  /** @type {Node[]} */
  const nodes = [];
  for (const [i, part] of parts.entries()) {
    let from = 0;
    const push = (/** @type {string} */ plain) => {
      if (!plain || i < parts.length - 1) return;
      const classes = style.classes;
      nodes.push(classes ? h("span", { class: classes }, plain) : document.createTextNode(plain));
    };
    for (const found of part.matchAll(CONTROL)) {
      push(part.slice(from, found.index));
      from = found.index + found[0].length;
      if (found[2] === "m") style.apply(found[1]);
    }
    push(part.slice(from));
  }
  return nodes;
}

/** Text without control sequences. @param {string} text */
export const plain = (text) => text.replace(CONTROL, "");

// What mostly says why a render failed, in the words of renderers and of Longtake.
const BAD = /\b(error|errors|exception|traceback|fatal|failed|failure|cannot|could not|killed|out of memory|segmentation fault|abort(ed)?|ended by signal|no such file|denied|missing)\b/i;
const DOUBTFUL = /\b(warn|warning|deprecated)\b/i;

/** Whether a line matters: "bad", "warn" or "". @param {string} text without control sequences */
export const weight = (text) => (/\b(0|no) errors?\b/i.test(text) ? "" : BAD.test(text) ? "bad" : DOUBTFUL.test(text) ? "warn" : "");
