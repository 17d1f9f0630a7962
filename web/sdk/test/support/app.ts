// Uses the declarations as an app would: compiled by the tests, never run.
import { Keepstep, KeepstepError, indexedDB, memory, tabStorage } from "keepstep";
import type { Changes, Chat, Message, Outgoing, State, Storage } from "keepstep";

class Own implements Storage {
  async load() { return { values: {}, chats: [], outbox: [] as Outgoing[] }; }
  async write(changes: Changes) { changes.removeOutbox?.forEach((key: string) => key); }
  async messages(_chat: string, { limit }: { before: number; limit: number }): Promise<Message[]> { return Array(limit); }
  async clear() {}
  async close() {}
}

export async function app(): Promise<Chat[]> {
  const storages: Storage[] = [memory(), indexedDB("phone"), await tabStorage("web"), new Own()];
  const client = new Keepstep({
    url: "https://chat.example.com",
    storage: storages[0],
    register: { userToken: async () => "token", kind: "main", name: "Phone", platform: "web" },
    timing: { pause: 500 },
    WebSocket,
  });
  const end: () => void = client.on("message", ({ seq, content }) => { const next: number = seq + 1; console.log(next, content); });
  client.on("state", ({ state, retryIn }) => { const now: State = state; console.log(now, retryIn?.toFixed()); });
  client.on("refused", ({ key, error }) => console.log(key, error.code));
  // @ts-expect-error: there is no such event
  client.on("mesage", () => {});
  // @ts-expect-error: a direct chat is with somebody
  client.createChat({ kind: "direct" });
  client.on("history_lost", ({ chats }) => console.log(chats?.length ?? "all"));
  await client.connect({ replace: true });
  const { messages, lost }: { messages: number; lost: string[] } = await client.recover({ onProgress: (count) => count.toFixed() });
  console.log(messages, lost[0], client.chat("chat")?.lost === true);
  await client.restoreHistory("chat", (await client.history("chat")).messages, { complete: true });
  const { seq } = await client.send("chat", { kind: "x.poll", content: { question: "?" } });
  await client.read("chat", seq);
  const ready = await client.once("ready", ({ kind }) => kind === "main");
  console.log(ready.user);
  try {
    await client.history("chat", { before: seq, limit: 10, onProgress: (done: number, total: number) => console.log(done / total) });
  } catch (error) {
    if (error instanceof KeepstepError && error.retry) console.log(error.code, error.lastSeen);
  }
  const [{ history: past = null }] = await client.devices();
  const most: number | null = past;
  console.log(most ?? "all");
  const link = await Keepstep.requestLink({ name: "Firefox", platform: "web" });
  link.result.then(({ token }) => new Keepstep({ token }), () => link.cancel());
  await client.approveLink(link.code, { history: null });
  end();
  return client.chats();
}
