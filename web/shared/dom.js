// Describing what should be on the page, and making it so with as few changes as it takes: what is focused, scrolled,
// selected or half typed stays, however often a view is drawn again. Nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const DREW = Symbol("what this node was drawn from");

/**
 * Describes one element.
 * @param {string} tag
 * @param {object|null} props attributes; `on…` functions are handlers; false, null and undefined leave one out, true
 *   writes it empty; `key` tells siblings apart; `memo` (a string): while it is the same, the element is left as it is
 * @param {...any} children elements, strings, numbers, lists of those; null and false are nothing
 */
export function h(tag, props, ...children) {
  const { key = null, memo = null, ...rest } = props ?? {};
  return { tag, key, memo, props: rest, children: flat(children) };
}

function flat(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

/** Makes the children of `parent` what `children` describe. */
export function draw(parent, ...children) {
  const focused = document.activeElement;
  reconcile(parent, flat(children));
  // Rows that changed places lose the focus in some browsers.
  if (focused && focused !== document.activeElement && focused !== document.body && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

/** What draws with `paint` in the next frame: once, however often it is asked to before that. */
export function eachFrame(paint) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      paint();
    });
  };
}

function reconcile(parent, children) {
  const wanted = new Set(children.map((child) => child.key).filter((key) => key !== null && key !== undefined));
  const known = new Map();
  for (const node of [...parent.childNodes]) {
    const key = node[DREW]?.key ?? null;
    if (key === null) continue;
    if (wanted.has(key)) known.set(key, node);
    else node.remove();
  }
  let at = parent.firstChild;
  for (const child of children) {
    let node = child.key === null || child.key === undefined ? reusable(at, child) : known.get(child.key);
    if (node && !fits(node, child)) node = null;
    node ??= create(parent, child);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
    fill(node, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function reusable(node, child) {
  return node && (node[DREW]?.key ?? null) === null && fits(node, child) ? node : null;
}

function fits(node, child) {
  if (typeof child !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === child.tag;
}

function create(parent, child) {
  if (typeof child !== "object") return document.createTextNode("");
  const svg = child.tag === "svg" || parent.namespaceURI === SVG;
  return svg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
}

function fill(node, child) {
  if (typeof child !== "object") {
    const text = String(child);
    if (node.data !== text) node.data = text;
    return;
  }
  const before = node[DREW];
  if (before && child.memo !== null && before.memo === child.memo) return;
  for (const name of Object.keys(before?.props ?? {})) if (!(name in child.props)) set(node, name, null, before.props[name]);
  for (const [name, value] of Object.entries(child.props)) set(node, name, value, before?.props[name]);
  node[DREW] = child;
  reconcile(node, child.children);
  // A select takes its value only once its options are there.
  if (node.localName === "select" && child.props.value !== undefined) node.value = child.props.value;
}

function set(node, name, value, before) {
  if (name.startsWith("on")) {
    node[name] = value ?? null;
  } else if (name === "value" && node.localName !== "progress") {
    // What somebody is typing is theirs; a value is only written when what it is drawn from changes.
    if (value !== before) node.value = value ?? "";
  } else if (name === "checked") {
    node.checked = Boolean(value);
  } else if (value === null || value === undefined || value === false) {
    node.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}
