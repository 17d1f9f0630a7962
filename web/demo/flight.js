// Shows the cause: a message flies from who sends it to the queues, and from there to every device. Nothing moves for
// those who want less motion.

const DURATION = 150;
const AT_ONCE = 8;
const still = matchMedia("(prefers-reduced-motion: reduce)");
let flying = 0;

const middle = (element) => {
  const { left, top, width, height } = element?.getBoundingClientRect() ?? { width: 0 };
  if (width === 0 || top > innerHeight || top + height < 0) return null;
  return `translate(${left + width / 2}px, ${top + height / 2}px)`;
};

function fly(from, to) {
  const [start, end] = [middle(from), middle(to)];
  if (!start || !end || still.matches || flying >= AT_ONCE || document.visibilityState !== "visible") return;
  const dot = document.createElement("div");
  dot.className = "flight";
  dot.setAttribute("aria-hidden", "true");
  document.body.append(dot);
  flying += 1;
  dot.animate([{ transform: start }, { transform: end }], { duration: DURATION, easing: "ease-out" }).finished.finally(() => {
    flying -= 1;
    dot.remove();
  });
}

/** Watches the frames of a device whose pane is `pane`; `queues` is where its messages pass. */
export function watch(station, pane, queues) {
  station.on("frame", ({ direction, frame }) => {
    if (String(frame.kind).startsWith("x.")) return;
    if (direction === "out" && frame.type === "send") fly(pane.querySelector(".composer"), queues);
    if (direction === "in" && frame.type === "message") fly(queues, pane.querySelector(".messages"));
  });
}
