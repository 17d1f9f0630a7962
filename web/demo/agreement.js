// Whether devices agree: compared is what each one really holds in its storage, message by message, numbers and content.
// Pure.

/** A hash of 53 bits over everything a message is (cyrb53: quick, and nobody here wants to forge one). */
export function digest(message) {
  const { seq, key, from, at, kind, content = null, media = null, memo = null, meta = null } = message;
  return hash(JSON.stringify([seq, key, from, at, kind, content, media, memo, meta]));
}

export function hash(text) {
  let a = 0xdeadbeef;
  let b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    a = Math.imul(a ^ unit, 2654435761);
    b = Math.imul(b ^ unit, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return 4294967296 * (2097151 & b) + (a >>> 0);
}

/** One number for a whole holding. */
export function fold(holding) {
  return hash(JSON.stringify(holding.map(({ seq, digest }) => [seq, digest]))).toString(16).padStart(14, "0");
}

/**
 * Compares one chat's holdings: ascending lists of `{seq, digest}` by device; the first is the phone's. A device may
 * begin later than the phone (it borrowed only so much), but from there on it must hold the same.
 * @returns {{seq: number, differ: {device: string, how: "behind"|"hole"|"other", seq: number}[]}}
 */
export function compare(holdings, head = 0) {
  const seq = Math.max(head, ...holdings.map(({ held }) => held.at(-1)?.seq ?? 0));
  const differ = [];
  const reference = new Map(holdings[0]?.held.map((one) => [one.seq, one.digest]));
  for (const { device, held, from = null } of holdings) {
    const top = held.at(-1)?.seq ?? from ?? 0;
    const own = new Map(held.map((one) => [one.seq, one.digest]));
    const low = held[0]?.seq ?? top + 1;
    let found = null;
    for (const [number, wanted] of reference) {
      if (number < low || number > top) continue;
      if (!own.has(number)) { found = { device, how: "hole", seq: number }; break; }
      if (own.get(number) !== wanted) { found = { device, how: "other", seq: number }; break; }
    }
    if (!found && top < seq) found = { device, how: "behind", seq: top };
    if (found) differ.push(found);
  }
  return { seq, differ };
}
