// Waiting for what isn't in a page (what is, Playwright waits for), and measuring.

/** Milliseconds that a wait takes at most, if it isn't told otherwise. Generous: a slow machine is no fault of a page. What must be quick is measured. */
export const PATIENCE = 60_000;

/** Waits until `look` gives something true, and gives that; fails with `what` (and what `look` threw last) when it doesn't in time. */
export async function until(what, look, patience = PATIENCE) {
  const end = Date.now() + patience;
  let last = "";
  for (;;) {
    try {
      const found = await look();
      if (found) return found;
    } catch (error) { last = `: ${error.message}`; }
    if (Date.now() > end) throw new Error(`waited ${patience / 1000} s in vain for: ${what}${last}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The least of at most so many tries, fewer if one is good enough already: a machine that was busy with something else says nothing of the page. */
export async function best(tries, enough, measure) {
  let least = Infinity;
  for (let n = 0; n < tries && least > enough; n++) least = Math.min(least, await measure());
  return least;
}
