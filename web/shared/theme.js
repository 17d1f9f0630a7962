// The light/dark switch of both pages. A classic script in the head, so that nothing is painted in the wrong colours
// first. Three states: what the system says (nothing stored), light, dark. Buttons with data-theme-switch go round.
(() => {
  const KEY = "keepstep-theme";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A browser that keeps no storage (private windows, blocked cookies) throws: the switch then lasts for this page.
  const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const keep = (theme) => { try { localStorage.setItem(KEY, theme); } catch { /* see above */ } };

  const current = () => root.dataset.theme ?? (dark.matches ? "dark" : "light");
  const label = () => {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.setAttribute("aria-pressed", String(current() === "dark"));
    }
  };

  const first = stored();
  if (first === "light" || first === "dark") root.dataset.theme = first;

  document.addEventListener("DOMContentLoaded", label);
  dark.addEventListener("change", label);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-theme-switch]")) return;
    root.dataset.theme = current() === "dark" ? "light" : "dark";
    keep(root.dataset.theme);
    label();
  });
})();
