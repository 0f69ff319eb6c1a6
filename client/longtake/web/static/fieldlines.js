// Find the line of a job file that a key stands on, in YAML or JSON, without a parser of either.

/**
 * Return the number of the line, from 0, of a key like `frames.count` or `chunks.3.start`; its nearest parent's where it
 * is not there itself, and null where there is none of it.
 * @param {string} text @param {string} field
 * @returns {number|null}
 */
export function findLine(text, field) {
  const lines = text.split("\n");
  let place = { line: 0, column: 0, indent: -1 };
  let found = null;
  for (const part of field.split(/[.[\]]+/).filter(Boolean)) {
    const next = /^\d+$/.test(part) ? findItem(lines, place, Number(part)) : findKey(lines, place, part);
    if (!next) break;
    place = next;
    found = next.line;
  }
  return found;
}

/** @typedef {{line: number, column: number, indent: number}} Place */

/** @param {string} line */
const indentOf = (line) => line.length - line.trimStart().length;
/** @param {string} line */
const isBlank = (line) => /^\s*(#|$)/.test(line);

/** @param {string[]} lines @param {Place} place @param {string} key @returns {Place | null} */
function findKey(lines, place, key) {
  const escaped = key.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = new RegExp(`(^|[\\s{,-])["']?${escaped}["']?\\s*:`);
  // Of block style: the least indented line below the parent that begins with the key.
  let best = null;
  for (let at = place.line; at < lines.length; at++) {
    const line = at === place.line ? " ".repeat(place.column) + lines[at].slice(place.column) : lines[at];
    if (isBlank(line)) continue;
    const indent = indentOf(line);
    if (at > place.line && indent <= place.indent && !/^[\s\]}-]/.test(line.slice(indent, indent + 1))) break;
    const hit = pattern.exec(line);
    if (!hit) continue;
    const column = hit.index + hit[0].length;
    // A key inside braces on the line of its parent is its own; deeper ones further down belong to others.
    if (at === place.line && place.indent >= 0) return { line: at, column, indent: indentOf(lines[at]) };
    if (best === null || indent < best.indent) best = { line: at, column, indent };
  }
  return best;
}

/** @param {string[]} lines @param {Place} place @param {number} index @returns {Place | null} */
function findItem(lines, place, index) {
  let seen = -1;
  let own = null;
  for (let at = place.line + 1; at < lines.length; at++) {
    const hit = /^(\s*)- /.exec(`${lines[at]} `);
    if (isBlank(lines[at])) continue;
    if (!hit) {
      if (indentOf(lines[at]) <= place.indent) break;
      continue;
    }
    own ??= hit[1].length;
    if (hit[1].length < own) break;
    if (hit[1].length === own && ++seen === index) return { line: at, column: own + 1, indent: own };
  }
  return null;
}

/** Return the number from 0 of a line that a parser names: `line 3, column 5`. @param {string} message */
export function lineOfMessage(message) {
  const hit = /\bline (\d+)/.exec(message);
  return hit ? Number(hit[1]) - 1 : null;
}
