// Set the theme before anything is drawn: as chosen, or else as the system has it. Classic, because modules run too late.
(() => {
  "use strict";
  const KEY = "longtake-theme";
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function chosen() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // Storage is forbidden in some private windows.
    }
  }

  function apply() {
    const theme = chosen() || (dark.matches ? "dark" : "light");
    if (root.dataset.theme === theme) return;
    root.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("themechange", { detail: theme }));
  }

  window.longtakeTheme = {
    toggle() {
      const next = root.dataset.theme === "dark" ? "light" : "dark";
      try {
        // What the system has anyway is followed again when the system changes.
        if (next === (dark.matches ? "dark" : "light")) localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, next);
      } catch {
        root.dataset.theme = next;
      }
      apply();
    },
  };
  dark.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  apply();
})();
