// When somebody may look again, or the network may be another one: a page becomes visible, comes back out of the browser's
// cache, or is thawed; the browser says that the network is back.

const OF_WINDOW = ["online", "pageshow"];
const OF_DOCUMENT = ["visibilitychange", "resume"];

/** Whether nobody can see this page now. Without a page (Node, a worker) there is no telling: false. */
export const hidden = () => globalThis.document?.visibilityState === "hidden";

/** Calls `woken` at each of these moments; gives back a function that ends it. */
export function onWake(woken) {
  const page = globalThis.document;
  const listener = () => {
    if (!hidden()) woken();
  };
  for (const name of OF_WINDOW) globalThis.addEventListener?.(name, listener);
  for (const name of OF_DOCUMENT) page?.addEventListener?.(name, listener);
  return () => {
    for (const name of OF_WINDOW) globalThis.removeEventListener?.(name, listener);
    for (const name of OF_DOCUMENT) page?.removeEventListener?.(name, listener);
  };
}

/** A moment, by both clocks: the wall's may be set, the steady one stands still while the machine sleeps. */
export const moment = () => ({ wall: Date.now(), steady: performance.now() });

/** Milliseconds since a moment, by the clock that says more. */
export const since = ({ wall, steady }) => Math.max(Date.now() - wall, performance.now() - steady);
