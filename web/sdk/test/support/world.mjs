// What tests are told in: devices of users on a server, and waiting for what must come.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { Keepstep, memory } from "../../keepstep.js";

/** Short pauses, so that tests don't wait for what people would. */
export const FAST = { pause: 30, pauseMax: 200 };

/** What a storage has. */
export const METHODS = ["load", "write", "messages", "clear", "close"];

/** For `held`: writes of messages. */
export const ofMessages = (name, changes) => name === "write" && changes.messages?.length > 0;

/** Numbers at random that come again with the same seed; KEEPSTEP_TEST_SEED sets it. */
export function chance(t) {
  const seed = Number(process.env.KEEPSTEP_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`seed ${seed}: KEEPSTEP_TEST_SEED=${seed} repeats it`);
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (most) => Math.floor(next() * most), seed };
}

/** Waits until something holds; says what it waited for, and how it was, if it never does. */
export async function eventually(what, holds, { within = 15_000 } = {}) {
  const end = Date.now() + within;
  for (let last; ;) {
    try {
      last = await holds();
      if (last) return last;
    } catch (error) {
      last = error.message;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${within} ms; last: ${JSON.stringify(last)}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * That a client which has stopped makes no attempt. This waits for the clock, because nothing happening has no event: for twice
 * the longest pause after which it could have tried.
 */
export async function stays(client, state, ms = FAST.pauseMax * 2) {
  const before = client.notes.states.length;
  await sleep(ms);
  assert.deepEqual([client.state, client.notes.states.slice(before)], [state, []]);
}

/**
 * A storage that does one thing after the other, as a disk does. Between `hold()` and a call of what that gives, what `which`
 * accepts (by the method's name and its arguments) waits, and with it all that is called later.
 */
export function held(storage, which) {
  let gate = null;
  let last = Promise.resolve();
  const turn = (name) => (...args) => {
    const done = last.then(async () => {
      if (gate && which(name, ...args)) await gate;
      return storage[name](...args);
    });
    last = done.catch(() => {});
    return done;
  };
  const hold = () => {
    let release;
    gate = new Promise((resolve) => { release = resolve; });
    return () => {
      gate = null;
      release();
    };
  };
  return { storage: Object.fromEntries(METHODS.map((name) => [name, turn(name)])), hold };
}

/** Makes devices, and closes them when the test is over. */
export function world(t, server) {
  const open = [];
  const suffix = randomUUID().slice(0, 8);
  // A storage that "crashed" never answers: it isn't waited for.
  t.after(() => Promise.race([Promise.all(open.map((client) => client.close().catch(() => {}))), sleep(500)]));
  return {
    /** Users of their own for each test. */
    user: (name) => `${name}-${suffix}`,
    /** A device, connected unless `connect: false`. */
    async device(user, kind, { connect = true, url = server.url, timing = {}, ...options } = {}) {
      const client = new Keepstep({
        url,
        register: { userToken: server.userToken(user), kind, name: `${user}'s ${kind}`, platform: "test" },
        timing: { ...FAST, ...timing },
        storage: memory(),
        ...options,
      });
      open.push(client);
      watch(client);
      if (connect) await client.connect();
      return client;
    },
  };
}

/** Notes what a client tells, and that each chat's messages come in order and once. */
export function watch(client) {
  const notes = { seqs: new Map(), contents: new Map(), wrong: [], states: [], errors: [] };
  client.on("message", ({ chat, seq, content }) => {
    const seqs = notes.seqs.get(chat) ?? [];
    if (seqs.length > 0 && seq <= seqs.at(-1)) notes.wrong.push(`${chat}: ${seq} behind ${seqs.at(-1)}`);
    notes.seqs.set(chat, [...seqs, seq]);
    notes.contents.set(chat, [...(notes.contents.get(chat) ?? []), content]);
  });
  client.on("state", (status) => notes.states.push(status));
  client.on("error", (error) => notes.errors.push(error));
  client.notes = notes;
  return client;
}

/** All a device has of a chat, as `#seq from: content`. */
export async function told(client, chat) {
  const { messages } = await client.history(chat, { limit: 10_000 });
  return messages.map(({ seq, from, content }) => `#${seq} ${from}: ${content}`);
}
