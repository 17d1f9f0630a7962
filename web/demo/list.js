// A long list of which only what is visible is in the page. Rows have their own heights: a row is measured when it is
// drawn, and guessed before. What somebody looks at stays where it is when rows come above it, and who is at the end
// stays at the end.

import { draw } from "/shared/dom.js";

const GUESS = 48;
const AROUND = 400;

export class List {
  #rows = [];
  #heights = new Map();
  #offsets = [0];
  #atEnd = true;
  #width = 0;
  #painting = false;

  /** `row`: describes a row, which has a `key`. `top`: the first row came into view. */
  constructor(root, { row, top }) {
    this.root = root;
    this.row = row;
    this.top = top;
    this.body = document.createElement("div");
    this.body.className = "messages__body";
    this.body.setAttribute("role", "list");
    root.replaceChildren(this.body);
    root.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#resized()).observe(root);
  }

  get atEnd() { return this.#atEnd; }

  set(rows) {
    // The same rows may still look another way: a tick, a clock.
    if (rows === this.#rows) return this.#paint();
    const anchor = this.#anchor();
    this.#rows = rows;
    this.#measure();
    this.#restore(anchor);
    this.#paint();
  }

  toEnd() {
    this.#atEnd = true;
    this.#restore(null);
    this.#paint();
  }

  // Which row is at the upper edge, and how far it is cut off; null: the end is what counts.
  #anchor() {
    if (this.#atEnd || this.#rows.length === 0) return null;
    const index = this.#at(this.root.scrollTop);
    return { key: this.#rows[index]?.key, off: this.root.scrollTop - this.#offsets[index] };
  }

  #restore(anchor) {
    this.body.style.height = `${this.#offsets.at(-1)}px`;
    if (!anchor) {
      if (this.#atEnd) this.root.scrollTop = this.root.scrollHeight;
      return;
    }
    const index = this.#rows.findIndex((row) => row.key === anchor.key);
    if (index >= 0) this.root.scrollTop = this.#offsets[index] + anchor.off;
  }

  #measure() {
    const offsets = new Array(this.#rows.length + 1);
    let sum = 0;
    for (let i = 0; i < this.#rows.length; i++) {
      offsets[i] = sum;
      sum += this.#heights.get(this.#rows[i].key) ?? GUESS;
    }
    offsets[this.#rows.length] = sum;
    this.#offsets = offsets;
  }

  // The row at this height.
  #at(y) {
    let low = 0;
    let high = this.#rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#offsets[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return Math.max(0, low);
  }

  #paint() {
    if (this.#painting || this.root.clientHeight === 0) return;
    this.#painting = true;
    // Measuring may show that more or less fits: twice is enough, since guesses are only replaced once.
    for (let round = 0; round < 3; round++) {
      const { scrollTop, clientHeight } = this.root;
      const first = this.#at(scrollTop - AROUND);
      const last = Math.min(this.#rows.length - 1, this.#at(scrollTop + clientHeight + AROUND));
      const shown = this.#rows.slice(first, last + 1);
      draw(this.body, shown.map((row, i) => this.row(row, first + i, this.#rows.length)));
      let y = this.#offsets[first];
      let moved = false;
      const heights = [...this.body.children].map((child) => child.offsetHeight);
      heights.forEach((height, i) => {
        const key = shown[i].key;
        if (this.#heights.get(key) !== height) {
          this.#heights.set(key, height);
          moved = true;
        }
        const transform = `translateY(${y}px)`;
        if (this.body.children[i].style.transform !== transform) this.body.children[i].style.transform = transform;
        y += height;
      });
      if (!moved) break;
      const anchor = this.#anchor();
      this.#measure();
      this.#restore(anchor);
    }
    this.#painting = false;
    if (this.#rows.length && this.root.scrollTop < AROUND) this.top();
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.root;
    this.#atEnd = scrollTop + clientHeight >= scrollHeight - 24;
    this.#paint();
  }

  #resized() {
    if (this.root.clientWidth !== this.#width) {
      this.#width = this.root.clientWidth;
      this.#heights.clear();
      this.#measure();
    }
    this.#restore(null);
    this.#paint();
  }
}

