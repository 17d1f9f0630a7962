// Pieces that several views are made of.

import { h } from "/shared/dom.js";
import { exact, fine, now as clock, number, relative, short } from "./format.js";

export function icon(name) {
  return h("svg", { class: "icon", "aria-hidden": "true", focusable: "false" }, h("use", { href: `#i-${name}` }));
}

/** A moment: how long ago, exactly when on hover. `tick` keeps it true. */
export function time(at) {
  if (typeof at !== "number") return h("span", { class: "quiet" }, "–");
  return h("time", { datetime: new Date(at).toISOString(), title: exact(at), "data-at": at }, relative(at));
}

/** Makes every relative time on the page true again; called each second. */
export function tick(root) {
  for (const node of root.querySelectorAll("time[data-at]")) {
    const text = relative(Number(node.dataset.at));
    if (node.textContent !== text) (node.firstChild ?? node.appendChild(document.createTextNode(""))).data = text;
  }
}

/** Says something to screen readers, politely. */
export function say(words) {
  // While a sheet is open, all outside of it is out of reach for screen readers too.
  (document.querySelector("dialog[open] [data-said]") ?? document.getElementById("said")).textContent = words;
}

/** Says something to screen readers at once. */
export function alarm(words) {
  document.getElementById("alarm").textContent = words;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages served by plain HTTP from another machine have no clipboard; an old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "unseen";
    // Inside an open dialog, because everything outside of it can't take the focus.
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    const focused = document.activeElement;
    area.select();
    document.execCommand("copy");
    area.remove();
    focused?.focus({ preventScroll: true });
  }
}

/** A button that copies `text()`, and says so for a moment. */
export function copyButton(label, text, { shown = null, className = "copy" } = {}) {
  return h("button", {
    type: "button", class: className, "aria-label": shown ? null : label, title: shown ? null : label,
    onclick: async (event) => {
      const button = event.currentTarget;
      await copy(typeof text === "function" ? text() : text);
      say("Copied");
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1200);
    },
  }, icon("copy"), icon("check"), shown);
}

/** An id, shortened, with its whole on hover and a button that copies it. */
export function id(value, what = "id") {
  if (!value) return h("span", { class: "quiet" }, "–");
  return h("span", { class: "id" }, h("code", { title: value }, short(value)), copyButton(`Copy ${what} ${short(value)}`, value));
}

/** A server's address; where it is too long for its place, it breaks before the port. */
export function address(node) {
  const port = node.lastIndexOf(":") + 1;
  return h("span", { class: "mono" }, node.slice(0, port), port ? h("wbr") : null, node.slice(port));
}

/** @param {"good"|"warning"|"danger"|""} tone */
export function badge(tone, words, mark = null) {
  return h("span", { class: `badge${tone ? ` badge--${tone}` : ""}` }, mark ? icon(mark) : null, words);
}

/** A number with a bar as long as its share of the largest one shown. */
export function bar(value, largest) {
  const share = value > 0 && largest > 0 ? Math.max(3, (100 * value) / largest) : 0;
  return h("span", { class: "amount" },
    h("svg", { class: "amount__bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      h("rect", { width: 100, height: 6, rx: 3, class: "track" }),
      share ? h("rect", { width: share.toFixed(1), height: 6, rx: 3, class: "fill" }) : null),
    h("span", { class: value > 0 ? null : "quiet" }, number(value)));
}

/**
 * A line of the last ten minutes.
 * @param {{at: number, value: number|null}[]} points oldest first; null: nothing was known then
 * @param {string} what e.g. "sends a second", for the words that stand for it
 */
export function sparkline(points, what, { width = 160, height = 40, minutes = 10, now = clock() } = {}) {
  const known = points.filter((point) => typeof point.value === "number" && point.at >= now - minutes * 60e3);
  if (known.length < 2) return h("p", { class: "spark spark--empty quiet small" }, "The line begins now");
  const values = known.map((point) => point.value);
  const top = Math.max(...values, 1e-9);
  const x = (at) => ((at - (now - minutes * 60e3)) / (minutes * 60e3)) * (width - 4) + 1;
  const y = (value) => height - 3 - (value / top) * (height - 6);
  // A pause in what is known is a gap in the line.
  const runs = [[]];
  for (const point of points) {
    if (typeof point.value !== "number" || point.at < now - minutes * 60e3) runs.push([]);
    else runs.at(-1).push(`${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`);
  }
  const last = known.at(-1);
  return h("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, role: "img", preserveAspectRatio: "none",
    "aria-label": `${what} over ten minutes: between ${fine(Math.min(...values))} and ${fine(top < 1e-8 ? 0 : top)}` },
  h("line", { x1: 0, x2: width, y1: height - 2.5, y2: height - 2.5, class: "spark__base" }),
  runs.filter((run) => run.length > 1).map((run) => h("polyline", { points: run.join(" "), class: "spark__line" })),
  h("line", { x1: x(last.at).toFixed(1), x2: x(last.at).toFixed(1), y1: y(last.value).toFixed(1), y2: y(last.value).toFixed(1), class: "spark__now" }));
}

/** Nothing to show, and why that is so or what to do. */
export function empty(title, words, action = null) {
  return h("div", { class: "state", role: "status" }, h("h2", null, title), h("p", { class: "quiet" }, words), action);
}

/** A table that isn't there yet. */
export function skeleton(rows = 8) {
  return h("div", { class: "skeleton", role: "status" }, h("span", { class: "unseen" }, "Loading"),
    Array.from({ length: rows }, () => h("span", { class: "skeleton__row" })));
}

/** The server says nothing: nobody knows how things are now. */
export function silent(at) {
  return note("warning", "wait", h("p", null, h("strong", null, "The server doesn’t answer just now. "), "Still waiting. What you see is as of ", time(at), "."));
}

/** What failed, and what happens next. */
export function failure(refusal, { at = null, again = null } = {}) {
  return h("div", { class: "note note--danger", role: "alert" }, icon("alert"),
    h("div", { class: "note__body" },
      h("p", null, h("strong", null, refusal.words)),
      h("p", null, refusal.hint, at ? [" What you see is as of ", time(at), "."] : null),
      again ? h("button", { type: "button", class: "button button--small", onclick: again }, "Try now") : null));
}

export function note(tone, mark, ...children) {
  return h("div", { class: `note${tone ? ` note--${tone}` : ""}` }, icon(mark), h("div", { class: "note__body" }, ...children));
}

/** Hands a text to the browser as a file. */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
