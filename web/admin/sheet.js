// The side sheet: one at a time, over everything else. The browser's own modal dialog keeps the focus inside, closes on
// Escape, and gives the focus back to where it was.

import { draw, h } from "/shared/dom.js";
import { icon } from "./parts.js";

const dialog = document.getElementById("sheet");
let open = null;

dialog.addEventListener("close", () => {
  // The event comes a little after the closing; another sheet may be open by now.
  if (dialog.open) return;
  const closed = open;
  open = null;
  draw(dialog);
  if (closed?.from?.isConnected && document.activeElement === document.body) closed.from.focus();
  closed?.onclose();
});
// A press on the veil, not one that began inside.
dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });

/**
 * Opens the sheet.
 * @param {() => void} onclose when it is closed, however
 * @returns {{show: (page: {step: string, title: string, body: any, foot?: any}) => void, isOpen: boolean, close: () => void,
 *   say: (words: string) => void, signal: AbortSignal}} `show` does nothing once it is closed; a new `step` takes the focus to the
 *   title; `signal` aborts at closing
 */
export function openSheet(onclose) {
  const before = open;
  open = null;
  before?.onclose();
  const stop = new AbortController();
  const mine = { from: before?.from ?? document.activeElement, step: null, onclose: () => { stop.abort(); onclose?.(); } };
  open = mine;
  return {
    signal: stop.signal,
    get isOpen() { return open === mine; },
    close() { if (open === mine) dialog.close(); },
    say(words) { const region = dialog.querySelector("[data-said]"); if (open === mine && region) region.textContent = words; },
    show({ step, title, body, foot }) {
      if (open !== mine) return;
      draw(dialog,
        h("div", { class: "sheet__head" },
          h("h2", { id: "sheet-title", tabindex: -1, autofocus: true }, title),
          h("button", { type: "button", class: "button button--plain button--small", "aria-label": "Close", onclick: () => dialog.close() }, icon("close"))),
        h("div", { class: "sheet__body", key: "body", "data-step": step, tabindex: 0, role: "region", "aria-labelledby": "sheet-title" }, body),
        foot ? h("div", { class: "sheet__foot", key: "foot" }, foot) : null,
        h("p", { class: "unseen", role: "status", "data-said": "", key: "said" }));
      if (!dialog.open) dialog.showModal();
      if (mine.step !== step) {
        mine.step = step;
        dialog.querySelector("#sheet-title").focus({ preventScroll: true });
        dialog.querySelector(".sheet__body").scrollTop = 0;
      }
    },
  };
}

export function closeSheet() {
  if (dialog.open) dialog.close();
}

/** Lets time pass; returns early when the sheet is closed. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
