// The console's frame: who is signed in, which view the address means, when it is read again.
//
// A view has `title(place)`, `load(place, signal)` (what it shows, from the server), `body(ctx, data)` (how), and `every`
// (milliseconds until it is read again; 0: it isn't). One view is shown at a time, one load is under way at a time.

import { Refusal, session } from "./api.js";
import { draw, h } from "/shared/dom.js";
import { audit } from "./audit.js";
import { orphans } from "./orphans.js";
import { overview } from "./overview.js";
import { allDevices, deviceChats, userDevices, users } from "./people.js";
import { failure, say, silent, skeleton, tick } from "./parts.js";
import { closeSheet } from "./sheet.js";
import { signIn } from "./signin.js";

const top = document.getElementById("frame");
const content = document.getElementById("content");

/** What the fragment means: `#/users/alice?sort=oldest` → parts and query. */
function placeOf(hash) {
  const [path, search] = hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { parts, path: `/${path}`, query: Object.fromEntries(new URLSearchParams(search ?? "")), hash };
}

function viewOf({ parts: [first, second, third] }) {
  switch (first) {
    case undefined: return overview;
    case "users": return third ? deviceChats : second ? userDevices : users;
    case "devices": return allDevices;
    case "orphans": return orphans;
    case "audit": return audit;
    default: return nowhere;
  }
}

const nowhere = {
  title: () => "Not here",
  every: 0,
  load: async () => ({}),
  body: () => h("div", { class: "state" }, h("p", { class: "quiet" }, "The console has no such page."), h("a", { class: "button", href: "#/" }, "Overview")),
};

const NAV = [["Overview", "#/", ""], ["Users", "#/users", "users"], ["Devices", "#/devices", "devices"], ["Orphans", "#/orphans", "orphans"], ["Audit", "#/audit", "audit"]];

/** A load that takes longer says nothing any more of a server that is well. With the longest pause between two loads that makes TRUSTED. */
const LATE = 3_500;
/** So old an answer may be to stand for how things are. */
const TRUSTED = 10_000;
/** Whether what is shown is how things are, as far as can be told. */
const fresh = () => !error && !late && asOf !== null && Date.now() - asOf < TRUSTED;

// What is shown now.
let place = placeOf(location.hash);
let view = viewOf(place);
let data = null;
let error = null;
let asOf = null;
let busy = false;
let slow = false;
let late = false;
let live = true;
let underway = null;
let timer = 0;
let failures = 0;
let notice = null;

// What was shown at places that one may come back to, so that going back is going back: the last few.
const left = new Map();

const ctx = {
  get place() { return place; },
  get busy() { return busy; },
  /** What is shown is how things were. */
  get stale() { return !fresh(); },
  get trail() { return history.state?.trail ?? []; },
  /** Changes the query of this place; empty values leave it. */
  go(query, { replace = false, trail = ctx.trail } = {}) {
    const all = Object.entries({ ...place.query, ...query }).filter(([, value]) => value !== "" && value !== undefined && value !== null);
    const hash = `#${place.path}${all.length ? `?${new URLSearchParams(all)}` : ""}`;
    history[replace ? "replaceState" : "pushState"]({ trail }, "", hash);
    arrive();
  },
  /** Reads the view again, now. */
  refresh: () => load(),
};

function arrive() {
  const next = placeOf(location.hash);
  if (next.hash === place.hash) return;
  const otherPath = next.path !== place.path;
  left.delete(place.hash);
  left.set(place.hash, { data, asOf, scroll: scrollY });
  if (left.size > 12) left.delete(left.keys().next().value);
  place = next;
  view = viewOf(place);
  const known = left.get(place.hash);
  error = null;
  if (otherPath) closeSheet();
  if (!session.token) return show();
  if (otherPath || known) {
    data = known?.data ?? null;
    asOf = known?.asOf ?? null;
  }
  show();
  if (otherPath) {
    scrollTo(0, known?.scroll ?? 0);
    content.querySelector("h1")?.focus({ preventScroll: true });
  }
  load({ asked: !otherPath });
}

async function load({ asked = false } = {}) {
  clearTimeout(timer);
  underway?.abort();
  const mine = (underway = new AbortController());
  const token = session.token;
  busy = true;
  slow = late = false;
  const patience = setTimeout(() => { slow = true; show(); }, 1500);
  const silence = setTimeout(() => { late = true; show(); }, LATE);
  if (!data || asked) show();
  try {
    const answer = await view.load(place, mine.signal, data);
    if (mine !== underway || token !== session.token) return;
    data = answer;
    asOf = Date.now();
    error = null;
    failures = 0;
    if (asked && typeof data.items?.length === "number") {
      say(typeof data.total === "number" ? `${data.total} found` : `${data.items.length} shown`);
    }
  } catch (problem) {
    if (mine !== underway || mine.signal.aborted) return;
    failures += 1;
    error = problem instanceof Refusal ? problem
      : new Refusal(0, "page", "This page made a mistake.", "Reload it; if it comes again, tell those who run this server.");
    if (!(problem instanceof Refusal)) console.error(problem);
    if (error.signIn) return leave(error);
  } finally {
    clearTimeout(patience);
    clearTimeout(silence);
    if (mine === underway) busy = slow = late = false;
  }
  show();
  plan();
}

/** When to look again: as often as the view wants, more slowly while it fails, not at all while nobody looks. */
function plan() {
  clearTimeout(timer);
  if (!session.token || document.hidden || (!error && (!live || !view.every))) return;
  timer = setTimeout(load, error ? Math.min(30_000, 2000 * 2 ** failures) : view.every);
}

function leave(why) {
  session.clear();
  clearTimeout(timer);
  underway?.abort();
  underway = null;
  data = null;
  error = null;
  busy = slow = late = false;
  left.clear();
  notice = why;
  closeSheet();
  show();
}

function frame() {
  return [
    h("a", { class: "brand", href: "#/" }, h("strong", null, "Keepstep"), h("span", { class: "quiet" }, "console")),
    session.token
      ? h("nav", { class: "nav", "aria-label": "Console" }, NAV.map(([label, href, part]) =>
        h("a", { href, "aria-current": (place.parts[0] ?? "") === part ? "page" : null }, label)))
      : null,
    h("div", { class: "top__end" },
      session.token ? h("span", { class: "live small quiet" },
        asOf ? h("span", { class: "live__at", "data-as-of": asOf }, "as of ", clockTime(asOf)) : null,
        h("button", { type: "button", class: "button button--plain button--small", "aria-pressed": String(live), title: "Read anew every few seconds",
          onclick: () => { live = !live; show(); if (live) load(); else plan(); } },
        h("span", { class: live && fresh() ? "dot dot--on" : "dot" }), !live ? "Paused" : asOf === null || fresh() ? "Live" : "Not live")) : null,
      session.token ? h("button", { type: "button", class: "button button--plain button--small", onclick: () => leave(null) }, "Sign out") : null),
  ];
}

// This one is of the reader's own clock: when the page had its last answer.
function clockTime(at) {
  return h("time", { datetime: new Date(at).toISOString(), "data-local": at, title: new Date(at).toLocaleTimeString("en-GB") }, ago(at));
}
function ago(at) {
  const seconds = Math.max(0, Math.floor((Date.now() - at) / 1000));
  return seconds < 1 ? "now" : seconds < 60 ? `${seconds} s ago` : `${Math.floor(seconds / 60)} min ago`;
}

function entered() {
  notice = null;
  place = placeOf(location.hash);
  view = viewOf(place);
  load().then(() => content.querySelector("h1")?.focus({ preventScroll: true }));
}

function show() {
  shown = fresh();
  draw(top, frame());
  if (!session.token) {
    document.title = "Sign in · Keepstep console";
    draw(content, signIn({ notice, entered, redraw: show }));
    return;
  }
  const title = view.title(place);
  document.title = `${title} · Keepstep console`;
  draw(content,
    h("div", { class: fresh() ? "view" : "view view--stale", key: place.path, "data-view": view.name ?? "" },
      view.head ? view.head(ctx, data) : h("div", { class: "view__head" }, h("h1", { tabindex: -1 }, title)),
      error ? h("div", { key: "error" }, failure(error, { at: data ? asOf : null, again: () => load() }))
        : late && data ? h("div", { key: "late" }, silent(asOf)) : null,
      data ? view.body(ctx, data)
        : error ? null
          : [view.tools ? view.tools(ctx) : null, skeleton(), slow ? h("p", { class: "quiet", role: "status" }, view.slow ?? "The server takes its time. Still waiting…") : null]));
}

addEventListener("popstate", arrive);
addEventListener("hashchange", arrive);
document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else if (session.token && live) load(); });
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[data-skip]")) { event.preventDefault(); content.focus(); }
});
let shown = true;
setInterval(() => {
  if (shown !== fresh()) show(); // it has become too old just by standing there
  tick(document);
  for (const node of document.querySelectorAll("time[data-local]")) node.firstChild.data = ago(Number(node.dataset.local));
}, 1000);
history.scrollRestoration = "manual";
show();
if (session.token) load();
