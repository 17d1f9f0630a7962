import assert from "node:assert/strict";
import { test } from "node:test";
import { IDBFactory } from "fake-indexeddb";
import "fake-indexeddb/auto";
import { indexedDB, memory } from "../keepstep.js";
import { contract } from "./support/contract.mjs";

contract("memory()", memory);
let databases = 0;
contract("indexedDB()", () => indexedDB(`contract-${databases++}`));

test("indexedDB(): names are apart, and without IndexedDB it says what to do", async () => {
  const factory = new IDBFactory();
  const one = indexedDB("one", { factory });
  const other = indexedDB("other", { factory });
  await one.write({ values: { whose: "one" } });
  assert.deepEqual((await other.load()).values, {});
  assert.deepEqual((await indexedDB("one", { factory }).load()).values, { whose: "one" });
  assert.throws(() => indexedDB("x", { factory: null }), /memory\(\)/);
});
