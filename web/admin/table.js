// Lists that the server sorts, searches and pages: one frame for all of them. Where it stands is in the address.

import { h } from "/shared/dom.js";
import { count, number } from "./format.js";
import { empty, icon, note, time } from "./parts.js";

/**
 * @typedef {object} Column
 * @property {string} label
 * @property {string} [sort] what the server calls this order; without it the column doesn't sort
 * @property {boolean} [up] the first press sorts ascending (names); otherwise descending (amounts)
 * @property {boolean} [number] right-aligned
 * @property {boolean} [tail] buttons, at the end: its head is for screen readers only
 * @property {boolean} [lead] what a row is called: its head, and the card's title on a phone
 * @property {string} [title] what the column means, on hover
 * @property {(item: object, page: object) => any} cell
 */

/** The order a list stands in: from the address, else its default. */
export function orderOf(place, columns, fallback) {
  const asked = place.query.sort;
  const sort = asked && columns.some((column) => column.sort === asked) ? asked : fallback;
  const column = columns.find((column) => column.sort === sort);
  const given = place.query.order;
  return { sort, order: given === "asc" || given === "desc" ? given : column?.up ? "asc" : "desc" };
}

function head(column, { sort, order }, choose) {
  const className = column.number ? "number" : null;
  if (!column.sort) return h("th", { scope: "col", role: "columnheader", class: className, title: column.title }, column.tail ? h("span", { class: "unseen" }, column.label) : column.label);
  const active = column.sort === sort;
  const next = active ? (order === "asc" ? "desc" : "asc") : column.up ? "asc" : "desc";
  return h("th", { scope: "col", role: "columnheader", class: className, "aria-sort": active ? (order === "asc" ? "ascending" : "descending") : null },
    h("button", { type: "button", class: "sort", title: column.title, onclick: () => choose(column.sort, next) },
      column.label,
      h("span", { class: active ? "sort__mark" : "sort__mark sort__mark--idle" }, icon((active ? order : next) === "asc" ? "up" : "down"))));
}

/**
 * @param {{label: string, columns: Column[], items: object[], key: (item: object) => string, order?: object,
 *   choose?: (sort: string, order: string) => void, page?: object}} table `page` is handed to each cell
 */
export function table({ label, columns, items, key, order = {}, choose, page = {} }) {
  // The roles are said in words, because on a phone rows are shown as cards, and browsers then forget them.
  return h("div", { class: "table-frame", role: "region", tabindex: 0, "aria-label": label },
    h("table", { class: "table", role: "table", "aria-label": label },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((column) => head(column, order, choose)))),
      h("tbody", { role: "rowgroup" }, items.map((item) => row(item, columns, key(item), page)))));
}

function row(item, columns, key, page) {
  return h("tr", { key, memo: JSON.stringify([item, page]), role: "row" }, columns.map((column) => {
    const className = [column.number ? "number" : "", column.lead ? "lead" : "", column.tail ? "tail" : ""].filter(Boolean).join(" ");
    return h(column.lead ? "th" : "td", {
      class: className || null, scope: column.lead ? "row" : null, role: column.lead ? "rowheader" : "cell", "data-label": column.label,
    }, column.cell(item, page));
  }));
}

/** Sorting where the heads of columns aren't shown: on a phone. */
function sortMenu(columns, { sort, order }, choose) {
  const options = columns.filter((column) => column.sort).flatMap((column) => [
    h("option", { value: `${column.sort} desc` }, `${column.label}, ${column.up ? "Z to A" : "most first"}`),
    h("option", { value: `${column.sort} asc` }, `${column.label}, ${column.up ? "A to Z" : "least first"}`),
  ]);
  if (!options.length) return null;
  return h("label", { class: "field phone-only" }, h("span", null, "Sort by"),
    h("select", { class: "input input--small", value: `${sort} ${order}`, onchange: (event) => choose(...event.target.value.split(" ")) }, options));
}

let typing = 0;

/** A field whose text goes to the server once the typing pauses. */
export function searchField(ctx, { label, placeholder, name = "search" }) {
  const submit = (value) => {
    clearTimeout(typing);
    if ((ctx.place.query[name] ?? "") !== value.trim()) ctx.go({ [name]: value.trim(), after: "" }, { replace: true, trail: [] });
  };
  return h("label", { class: "search", key: `search-${name}` }, h("span", { class: "unseen" }, label), icon("search"),
    h("input", {
      class: "input input--small", type: "search", placeholder, value: ctx.place.query[name] ?? "", autocomplete: "off", spellcheck: "false",
      oninput: (event) => { clearTimeout(typing); const { value } = event.target; typing = setTimeout(() => submit(value), 250); },
      onchange: (event) => submit(event.target.value),
    }));
}

const SIZES = [50, 100, 250, 1000];
export const pageSize = (place) => (SIZES.includes(Number(place.query.limit)) ? Number(place.query.limit) : 100);

function pager(ctx, data) {
  const { trail } = ctx;
  const shown = data.items.length;
  // The trail is what this tab walked; an address from elsewhere that stands in the middle has none.
  const known = !ctx.place.query.after || trail.length > 0;
  const first = known ? trail.length * pageSize(ctx.place) + 1 : null;
  const total = typeof data.total === "number" ? ` of ${number(data.total)}` : "";
  const range = shown === 1 ? number(first) : `${number(first)}–${number(first + shown - 1)}`;
  const where = first === null ? `${number(shown)}${total}` : `${range}${total}`;
  return h("nav", { class: "pager", "aria-label": "Pages" },
    h("p", { class: "small quiet" }, shown ? where : null),
    h("label", { class: "pager__size small" }, h("span", null, "Rows"),
      h("select", { class: "input input--small", value: String(pageSize(ctx.place)), onchange: (event) => ctx.go({ limit: event.target.value, after: "" }, { trail: [] }) },
        SIZES.map((size) => h("option", { value: String(size) }, number(size))))),
    h("button", { type: "button", class: "button button--small", disabled: !ctx.place.query.after, onclick: () => ctx.go({ after: "" }, { trail: [] }) }, "First"),
    h("button", { type: "button", class: "button button--small", disabled: !trail.length,
      onclick: () => ctx.go({ after: trail.at(-1) }, { trail: trail.slice(0, -1) }) }, "Back"),
    h("button", { type: "button", class: "button button--small", disabled: !data.next,
      onclick: () => ctx.go({ after: data.next }, { trail: [...trail, ctx.place.query.after ?? ""] }) }, "Next"));
}

/**
 * A whole list: tools, warnings, table, pages.
 * @param {object} ctx see main.js
 * @param {object} data the server's page, or null while it isn't there
 * @param {{label: string, columns: Column[], fallback?: string, key: Function, search?: object, tools?: any,
 *   nothing: {title: string, words: string}, noMatch?: {title: string, words: string}, page?: object}} spec
 */
export function listing(ctx, data, spec) {
  const order = orderOf(ctx.place, spec.columns, spec.fallback);
  const choose = (sort, direction) => ctx.go({ sort, order: direction, after: "" }, { trail: [] });
  const narrowed = spec.narrowed ?? Boolean(ctx.place.query.search);
  const none = narrowed && spec.noMatch ? spec.noMatch : spec.nothing;
  return [
    h("div", { class: "tools", key: "tools" },
      spec.search ? searchField(ctx, spec.search) : null, spec.tools, sortMenu(spec.columns, order, choose),
      data?.as_of ? h("p", { key: "as-of", class: "small quiet as-of" }, "The server looked ", time(data.as_of)) : null),
    data ? warnings(data) : null,
    data && !data.items.length && !ctx.place.query.after
      ? h("div", { key: "none" }, empty(none.title, none.words,
        narrowed && spec.clear ? h("button", { type: "button", class: "button", onclick: () => ctx.go(spec.clear, { trail: [] }) }, "Show all") : null))
      : null,
    data && (data.items.length || ctx.place.query.after)
      ? h("div", { key: "list", class: "list", "aria-busy": ctx.busy ? "true" : null },
        data.items.length
          ? table({ ...spec, items: data.items, order, choose })
          : empty("Nothing is left on this page", "What stood here is gone. Go to the first page."),
        pager(ctx, data))
      : null,
  ];
}

/** What isn't in the list although it might be looked for there. */
export function warnings(data) {
  return [
    data.unreachable?.length
      ? h("div", { key: "unreachable" }, note("warning", "alert",
        h("p", null, h("strong", null, `${count(data.unreachable.length, "server")} can’t be reached: `), data.unreachable.join(", "), "."),
        h("p", null, "What stands there isn’t counted here. It is counted again as soon as it answers.")))
      : null,
    data.truncated
      ? h("div", { key: "truncated" }, note("warning", "info",
        h("p", null, h("strong", null, "There is more than one look can hold. ")),
        h("p", null, "What you see is the part that was read; sums and order are of that part. Search for a user or a device to narrow it down.")))
      : null,
  ];
}
