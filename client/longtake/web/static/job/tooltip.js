// What hovering a canvas tells: one small box beside the pointer.

import { fill, h } from "../dom.js";

export function tooltip() {
  const element = h("div", { class: "tip panel", "aria-hidden": "true", hidden: true });
  document.body.append(element);
  return {
    /** @param {PointerEvent|MouseEvent} event @param {any[]} content */
    show(event, content) {
      fill(element, content);
      element.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = element;
      const x = event.clientX + 14 + width > innerWidth - 8 ? event.clientX - 14 - width : event.clientX + 14;
      const y = event.clientY + 16 + height > innerHeight - 8 ? event.clientY - 12 - height : event.clientY + 16;
      element.style.transform = `translate(${Math.max(8, Math.round(x))}px, ${Math.max(8, Math.round(y))}px)`;
    },
    hide() {
      element.hidden = true;
    },
    remove() {
      element.remove();
    },
  };
}
