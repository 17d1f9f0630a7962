/**
 * Keepstep's client for browsers and Node 20+. One `Keepstep` is one device: the phone (`main`, keeps the whole
 * history) or a web session (`sub`, borrows its history from the main).
 *
 * Times are Unix milliseconds, durations milliseconds. Ids are UUIDs in lower case. `seq` counts 1, 2, 3, … per chat.
 */

// ------------------------------------------------------------------------------------------------ the client

export class Keepstep {
  /** Makes a client; touches neither network nor storage until `connect()` or the first call that needs them. */
  constructor(options: Options);

  /** What the connection is doing; changes are told by the event `state`. */
  readonly state: State;
  /** The same with words and close code: the payload of the last `state` event. */
  readonly status: StateEvent;
  /** The user and this device, null until known (from storage, registration or the first connection). */
  readonly user: string | null;
  readonly device: string | null;
  readonly kind: DeviceKind | null;
  /** The device token in use, null before there is one. Keep it like a password. */
  readonly token: string | null;
  /** The user's main device as a sub sees it; null on a main and before the first connection. */
  readonly main: MainInfo | null;
  /** What the last connection said: edge, session, heartbeat, limits. Null before the first. */
  readonly welcome: Welcome | null;

  // ---- connection
  /** Reads what storage has, without network: then `chats()`, `history()` and `outbox()` answer. `connect()` does it, too. */
  open(): Promise<void>;
  /**
   * Opens storage, registers the device if it must, connects, and goes on connecting until told to stop.
   * Resolves at the first `ready`. Rejects with a KeepstepError when a state is reached that ends trying
   * (`terminated`, `replaced`, …), or by `disconnect()`. Not waiting for it is fine: a rejection nobody
   * looks at isn't reported. Called again while connected or trying: the same promise; a waiting retry is made now, and a
   * connection is asked for a sign of life. Called in the state `replaced`: takes the device back, also from another tab.
   */
  connect(options?: {
    /** When a main has to register, and the user has another: takes its place (see `Registration.replace`). */
    replace?: boolean;
  }): Promise<void>;
  /** Ends the connection and the retries: state `closed`. What is sent meanwhile waits in the outbox. `connect()` goes on. */
  disconnect(): void;
  /** `disconnect()`, waits for what is being stored, and closes the storage. The client can't be used again: calls reject with `closed`. */
  close(): Promise<void>;

  // ---- events; see `Events` for names and payloads
  /** Calls `listener` at each event of that name; gives back a function that ends it. */
  on<N extends keyof Events>(name: N, listener: (payload: Events[N]) => void): () => void;
  off<N extends keyof Events>(name: N, listener: (payload: Events[N]) => void): void;
  /** The payload of the next event of that name (that `filter` accepts). It waits for ever unless `signal` ends it. */
  once<N extends keyof Events>(
    name: N, filter?: (payload: Events[N]) => boolean, options?: { signal?: AbortSignal },
  ): Promise<Events[N]>;

  // ---- messages
  /**
   * Puts a message into the outbox (stored before anything is sent) and sends it as soon as it can be, in the order
   * of calls per chat, under one key however often it must be repeated, also after a reload.
   * A string is `{kind: "text", content: string}`.
   * Resolves when the server has numbered it. Rejects when the server refuses it for good (the outbox forgets it), and
   * with `storage` when it couldn't be stored. A rejection nobody looks at isn't reported: see `refused`.
   */
  send(chat: string, draft: string | Draft): Promise<Sent>;
  /** What waits to be sent, oldest first; of one chat, or of all. */
  outbox(chat?: string): Outgoing[];
  /** Takes a waiting message out of the outbox. False: it isn't there, or may be on its way already (always so after a reload). */
  unsend(key: string): Promise<boolean>;
  /**
   * The newest `limit` messages (default 50) below `before` (default: all), ascending. Taken from storage; what isn't there
   * a sub asks from the main, and a main looks for in the server's log, at most 100 at a time, with a `progress` event and a call of
   * `onProgress` for each page. Throws `main_offline`, `main_timeout`, … only if there is nothing to give; else gives what it has, `more: true`.
   */
  history(chat: string, options?: HistoryOptions): Promise<Page>;
  /**
   * For a main that has lost its history (event `history_lost`): gets what the server's log still holds, of each chat that is `lost`.
   * Waits for a connection, if one is tried. Resolves with how many messages that were, and the ids of the chats that aren't whole by that; `onProgress` is called with the number
   * so far. The log holds the newest messages only, so what it lacks can come from another device of the user: see `restoreHistory`.
   */
  recover(options?: { signal?: AbortSignal; onProgress?: (messages: number) => void }): Promise<{ messages: number; lost: string[] }>;
  /**
   * For a main: takes over older messages that the app has brought from another device of the user (the protocol has no way for a main to
   * ask for them), as that one's `history()` gives them: all it has below `chat(id).low`. `complete`: there were no older ones there.
   * What isn't older than what is here is left out. Resolves with how many were taken.
   */
  restoreHistory(chat: string, messages: Message[], options?: { complete?: boolean }): Promise<number>;

  // ---- chats
  /**
   * The chats this device knows, those with the newest message first: in the order in which messages came to this device; what was
   * said while it was away, or before it was there, by `at`. (No clock decides about what it was there for: that of an edge may be wrong.)
   * Includes left ones (`joined: false`).
   */
  chats(): Chat[];
  /** One of them; undefined if it isn't known. */
  chat(id: string): Chat | undefined;
  /** Says that the user has read up to `seq` (default: all this device has). Never goes back. Kept and sent later when offline. */
  read(chat: string, seq?: number): Promise<void>;
  /** A direct chat with a user, or a new group. Idempotent for the same `id`; resolves when `chat(id)` knows it, if online. */
  createChat(chat: NewChat): Promise<ChatInfo>;
  /** Joins a group by id or by name. */
  joinChat(chat: string | { name: string }, password?: string): Promise<ChatInfo>;
  leaveChat(chat: string): Promise<void>;
  /** The chats as the server lists them, with members and owner. */
  listChats(): Promise<ChatInfo[]>;
  getChat(chat: string): Promise<ChatInfo>;
  /** As owner of a group. Where users are asked first, `invited` of the answer names them instead of `members`. */
  invite(chat: string, user: string): Promise<ChatInfo>;
  /** As owner of a group; also takes an invitation back. */
  removeMember(chat: string, user: string): Promise<void>;
  /** Deletes this device's copy of a chat that the user has left. */
  forgetChat(chat: string): Promise<void>;

  // ---- invitations and blocks
  /** What waits for the user's answer, where others ask before they put one into a chat (`KEEPSTEP_INVITES=consent`). */
  invitations(): Promise<Invitation[]>;
  /** Resolves when `chat(id)` knows it, if online. */
  acceptInvitation(chat: string): Promise<ChatInfo>;
  declineInvitation(chat: string): Promise<void>;
  /** Whom the user blocks, by name. */
  blocks(): Promise<Block[]>;
  /** Blocks a user: no direct chat, no invitation, and neither sees whether the other is there. */
  block(user: string): Promise<Block>;
  unblock(user: string): Promise<void>;

  // ---- devices
  devices(): Promise<Device[]>;
  /** Ends a device of the user. From here on it is refused everywhere; `receipt()` tells when its queues are gone. */
  removeDevice(device: string): Promise<Termination>;
  termination(id: string): Promise<Termination>;
  /**
   * Asks until the termination is `done`, also while the server can't be reached; `onState` is called with each answer that differs.
   * Ends earlier by `signal` (`cancelled`) or `close()` only; rejects at once for one that the server doesn't know.
   */
  receipt(id: string, options?: { onState?: (t: Termination) => void; signal?: AbortSignal }): Promise<Termination>;

  // ---- presence and typing
  /** Tells the others in a chat that the user types; sent at most once per 3 s and chat, and not at all when offline. */
  typing(chat: string): void;
  /** Whose presence is told by `presence` events: at most 100 users, replaces the set before. Kept over reconnects. */
  watch(users: string[]): void;
  /** What was last heard of a watched user on this connection; without one nobody knows. */
  presence(user: string): Presence | undefined;

  // ---- linking
  /** A new web session asks for a code that the phone approves. `result` rejects with `refused`, `expired` or `cancelled`. */
  static requestLink(options: LinkOptions): Promise<LinkRequest>;
  /** On the main: who asks under this code, before approving. */
  lookupLink(code: string): Promise<LinkInfo>;
  /** On the main: approves (default) or refuses. `history`: how many messages per chat the sub may ask for; null: all; 0: none. */
  approveLink(code: string, options?: { approve?: boolean; history?: number | null }): Promise<{ device?: Device }>;

  /** Registers a device without a client: for those who keep tokens themselves. */
  static register(options: RegisterOptions): Promise<{ device: Device; token: string }>;
}

export interface Options {
  /** The server, such as `https://chat.example.com`. In a page the default is the page's own origin. */
  url?: string;
  /** A device token, by `Keepstep.register` or `requestLink`. Left out: the one in `storage`, else `register`. */
  token?: string;
  /**
   * How to get a device when neither `token` nor `storage` has one. The device's id is stored first, so that a broken-off
   * registration is repeated under the same id. Used once more after 4401 (the server doesn't know the device any more).
   */
  register?: Registration;
  /** Default: `memory()`. */
  storage?: Storage;
  /** A sub asks the main for this many messages per chat before it is `ready` (default 100; 0: none). */
  bootstrap?: number;
  /** Default: `globalThis.WebSocket`. Node 20 has none without `--experimental-websocket`: give the `ws` package's. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocket;
  fetch?: typeof fetch;
  timing?: Timing;
}

export interface Registration {
  /**
   * A user token, or a function that gets a fresh one. One that throws is asked again later (state `offline`), unless it throws
   * a KeepstepError without `retry`; one that gives nothing ends in `unauthorized`.
   */
  userToken: string | (() => string | Promise<string>);
  kind: DeviceKind;
  /** 1-128 bytes each, shown in the list of devices. */
  name: string;
  platform: string;
  /** A main takes the place of the user's other main (default false: `main_exists`). */
  replace?: boolean;
}

export interface Timing {
  /** The first pause before connecting again (default 1,000), doubled each time up to `pauseMax` (30,000); times 0.5-1.5. */
  pause?: number;
  pauseMax?: number;
  /** From the begin of a connection to its `welcome` (default 15,000). */
  open?: number;
  /**
   * Silence of the server until it is asked for a sign of life. Default: 5,000; in a page that is hidden its `heartbeat_s` (at most
   * 25,000). It is also asked when a question waits for 5,000, when the page becomes visible or is thawed, when the browser says
   * that the network is back, and when the machine has slept. More spares a phone's battery, and lets `online` be shown for longer.
   */
  silence?: number;
  /**
   * For the answer; then the connection counts as lost (default 4,500). After `silence` and `patience` without a sign of life the state is
   * `checking`, whatever it was. A line that was slower before gets more time, up to 30,000.
   */
  patience?: number;
  /** For one HTTP call (default 20,000). */
  call?: number;
}

// ------------------------------------------------------------------------------------------------ events

/** Names and payloads of `on`, `off`, `once`. */
export interface Events {
  /** The connection's state changed. */
  state: StateEvent;
  /** Connected and complete: a main at once; a sub when it has its bootstrap. Again at each connection. */
  ready: { user: string; device: string; kind: DeviceKind };
  /** A message that is new to this device: stored already, in the order of seq, once per (chat, seq). Own ones, too. */
  message: Message;
  /** Older messages came from the main (bootstrap, `history()`, a filled gap): stored already, ascending. `more`: older ones exist. */
  history: { chat: string; messages: Message[]; more: boolean; reason: "bootstrap" | "asked" | "gap" | "recovered" };
  /** How far a bootstrap (over all chats) or a `history()` (of one chat) is, in messages. `done === total` at its end. */
  progress: { reason: "bootstrap" | "asked"; chat: string | null; done: number; total: number };
  /** Numbers that the server holds no more. Told when tried: `filled`: what the main has of them came (events `message`
   *  if they were in turn, else `history`); false: a main has nobody to ask; a sub tries again at its next connection. */
  gap: { chat: string; from: number; to: number; filled: boolean };

  /** A message is in the outbox and stored. */
  queued: Outgoing;
  /** The server has numbered it. The `message` event with the same `key` may come before or after. */
  sent: Sent;
  /** The server refused it for good; the outbox has forgotten it. Here is all that is needed to show or repeat it. */
  refused: Outgoing & { error: KeepstepError };

  /** The user's read offset moved, here or on another device (`device`; null: by joining, or unknown). */
  read: { chat: string; seq: number; device: string | null; unread: number };
  /** Joined or left by the user; by others (`user`); `changed`: head, unread or name, to draw the list anew. */
  chat: { event: "joined" | "left" | "member_joined" | "member_left" | "changed"; chat: string; user?: string };
  /** Another device of the user. */
  device: { event: "linked" | "online" | "offline" | "terminated" | "expiring"; device: string; at?: number };
  /** A sub's main came or went (also told by `device`). */
  main: MainInfo;
  /** Somebody types in a chat. */
  typing: { chat: string; user: string };
  /** A watched user came or went. */
  presence: Presence;

  /** An invitation waits for the user's answer, or waits no more. Ask for those from before by `invitations()`. */
  invitation: ({ event: "pending" } & Invitation) | { event: "over"; chat: string };

  /** To the main: a web session asks to be linked; `lookupLink`, `approveLink`. */
  link_request: { code: string; name: string; platform: string };
  /**
   * The storage was emptied under this client: site data was cleared, the browser needed room. It is the same device still, and what
   * waited to be sent waits. A sub boots again by itself. A main doesn't serve what it hasn't got: its chats are `lost`, see `recover`.
   * `chats`: which; null: all. Forget what the screen shows of them.
   */
  history_lost: { kind: DeviceKind; chats: string[] | null };
  /** A main answered a sub's question from its storage. */
  history_served: { chat: string; device: string | null; count: number; from: number | null; more: boolean };

  /** Something failed that nobody waits for. `code` is `storage` when a message couldn't be stored: it isn't acknowledged, and comes again. */
  error: KeepstepError;
  /** Each frame of the protocol, for tools. */
  frame: { direction: "in" | "out"; frame: { type: string; [field: string]: unknown } };
}

/**
 * | state | close code | the client | means |
 * |---|---|---|---|
 * | `idle` | - | | not connected yet |
 * | `connecting` | - | tries | |
 * | `booting` | - | connected | a sub gets its history from the main |
 * | `online` | - | connected | |
 * | `checking` | - | connected; asks | nothing was heard for 10 s, or since the page was hidden or the machine slept: `online` (or `booting`) again in a moment, or `offline` |
 * | `offline` | 4300, 4301, 4302, 4304, 4305, 1006, any other | tries again after `retryIn` | lost, or the server isn't there |
 * | `main_offline` | 4303 | tries again after `retryIn` | the user's main isn't connected: "open your phone" |
 * | `unauthorized` | 4401, none | stops | no good token: register (again). `error.code` `main_exists`: the user has a phone already, `connect({ replace: true })` or link this one; `limit_reached`: as many web sessions as may be, end one |
 * | `terminated` | 4403 | stops; its storage has been cleared | the device was ended by the user, the main or an admin |
 * | `replaced` | 4409, none | stops | the same device is open elsewhere, e.g. in another tab: `connect()` takes it over, when the user asks |
 * | `kicked` | 4410 | stops | an admin closed it; `connect()` when the user asks |
 * | `failed` | 4400, 4413, 4429, any other 44xx; none | stops | a bug, a refused registration, or storage of another device |
 * | `closed` | - | stops | `disconnect()` or `close()` |
 */
export type State =
  | "idle" | "connecting" | "booting" | "online" | "checking" | "offline" | "main_offline"
  | "unauthorized" | "terminated" | "replaced" | "kicked" | "failed" | "closed";

export interface StateEvent {
  state: State;
  /** For people, in English. */
  text: string;
  /** The close code that led here, else null. */
  code: number | null;
  /** Until it tries again, in `offline` and `main_offline`; else null. */
  retryIn: number | null;
  /** In `main_offline`: when the main was last seen; null if there is none. */
  lastSeen: number | null;
  /** In states that stop: what `connect()` rejects with. */
  error: KeepstepError | null;
}

/**
 * What calls reject with. `code` is the server's (docs/protocol.md, "Error codes"), or one of the client's own:
 * `offline` (the server can't be reached), `timeout`, `storage`, `storage_lost` (it was emptied), `storage_mismatch`, `no_websocket`, `no_token`,
 * `closed`, `refused`, `expired`, `cancelled`, `replaced`, `terminated`, `kicked`, `failed`.
 */
export class KeepstepError extends Error {
  constructor(code: string, message: string, options?: { retry?: boolean; status?: number; lastSeen?: number | null; requestId?: string; cause?: unknown });
  readonly code: string;
  /** The same may succeed later. */
  readonly retry: boolean;
  /** Of an HTTP answer. */
  readonly status?: number;
  /** With `main_offline`. */
  readonly lastSeen?: number | null;
  /** Of an HTTP answer: the server's log has it on each line about this call. */
  readonly requestId?: string;
}

// ------------------------------------------------------------------------------------------------ nouns

export type DeviceKind = "main" | "sub";

/** A message as the server delivers it. `from` is the sender; `device` null if it was sent by HTTP with a user token. */
export interface Message {
  type: "message";
  chat: string;
  seq: number;
  key: string;
  from: string;
  device: string | null;
  at: number;
  kind: "text" | "media" | `x.${string}`;
  content?: unknown;
  media?: Media;
  memo?: string;
  meta?: Record<string, unknown>;
}
export interface Media {
  url: string; preview?: string; mime?: string; size?: number; width?: number; height?: number; name?: string;
}
/**
 * What is to be sent: JSON. (Half a character, of text that was cut in the middle of one, goes out as U+FFFD.) `key` may be given to know the message by before it has a seq; default: a new UUID. `type`, `id` and `chat`
 * aren't fields of a draft: `send` rejects with `bad_field`.
 */
export interface Draft {
  kind?: Message["kind"]; content?: unknown; media?: Media; memo?: string; meta?: Record<string, unknown>; key?: string;
}
/** A message in the outbox. `n` orders them; `at` is when it was put there. */
export interface Outgoing { key: string; chat: string; n: number; at: number; body: Omit<Draft, "key"> & { kind: Message["kind"] } }
export interface Sent { key: string; chat: string; seq: number; at: number }
export interface Page { messages: Message[]; more: boolean }
/** `signal` ends the waiting at once, with `cancelled`; a page that is under way then is stored when it comes. */
export interface HistoryOptions {
  before?: number; limit?: number; signal?: AbortSignal; onProgress?: (done: number, total: number) => void;
}

/** A chat as this device knows it. A snapshot: ask again after an event. */
export interface Chat {
  id: string;
  kind: "direct" | "group";
  name: string | null;
  /** The highest seq there is, as far as known. */
  head: number;
  /** The highest seq this device has stored and acknowledged; equal on all devices when they agree. */
  top: number;
  /** The lowest seq it holds; `top` + 1 if none. */
  low: number;
  /** There is nothing older to be had. Never so where something was lost. */
  complete: boolean;
  /** Of a main: it had more of this chat, and its storage was emptied. What is older than `low` isn't served. */
  lost: boolean;
  read: number;
  /** Messages of others above `read`; `unreadMore`: and perhaps some that this device hasn't got. */
  unread: number;
  unreadMore: boolean;
  last: Message | null;
  joined: boolean;
}
/** A chat as HTTP tells it. */
export interface ChatInfo {
  id: string; kind: "direct" | "group"; name: string | null; public: boolean; password: boolean; owner: string | null;
  created: number; head: number; read: number; members: string[];
  /** Whom `createChat` or `invite` has asked to come. */
  invited?: string[];
}
export type NewChat =
  | { kind: "direct"; with: string; id?: string }
  | { kind: "group"; name?: string; public?: boolean; password?: string; id?: string };

export interface Device {
  id: string; kind: DeviceKind; name: string; platform: string; created: number; last_seen: number; online: boolean;
  edge: string | null; state: string; expires?: number;
  /** Of a linked sub: how many messages per chat of the past it may ask for; null or left out: all. */
  history?: number | null;
}
export interface Invitation { chat: string; kind: "direct" | "group"; name: string | null; by: string; at: number }
export interface Block { user: string; at: number }
export interface Termination {
  id: string; state: "accepted" | "pending" | "done"; device?: string; by?: string; accepted_at?: number;
  channels_deleted?: number; unreachable?: string[];
  receipt?: { channels: { node: string; topic: string; channel: string; depth: number }[]; remaining: number; verified_at: number } | null;
}
export interface MainInfo { device: string | null; online: boolean; lastSeen: number | null }
export interface Presence { user: string; online: boolean; last_seen: number | null }
export interface Welcome {
  protocol: number; user: string; device: string; kind: DeviceKind; session: number; edge: string; heartbeat_s: number;
  limits: Record<string, number>;
}

export interface RegisterOptions extends Registration { url?: string; id?: string; fetch?: typeof fetch }
export interface LinkOptions {
  url?: string; name: string; platform: string; fetch?: typeof fetch;
  /** Of the user to be linked with, if known: the main is then told by `link_request`. */
  userToken?: string;
}
export interface LinkRequest {
  /** To be typed or read aloud, such as `7F3K-92`. */
  code: string;
  link: string;
  /** An SVG path of the QR code's modules in a box of `size` x `size`. */
  qr: { size: number; path: string };
  /** Seconds. */
  expiresIn: number;
  /** The new device and its token, when the phone has approved. A rejection nobody looks at isn't reported. */
  result: Promise<{ device: Device; token: string }>;
  cancel(): void;
}
export interface LinkInfo { code: string; name: string; platform: string; expires_in: number }

// ------------------------------------------------------------------------------------------------ storage

/** In memory: gone with the page. */
export function memory(): Storage;
/**
 * In the browser's IndexedDB, under this name: one name per device. Written with `durability: "strict"`. One tab has it at a time: a
 * second one gets the state `replaced`, and takes it over by `connect()`. (Which tab has it, Web Locks say; without them, in a page
 * without TLS, whoever opens it last.)
 */
export function indexedDB(name: string, options?: { factory?: IDBFactory; locks?: LockManager }): Storage;
/**
 * An `indexedDB` for this tab alone, for pages whose tabs are web sessions of their own: the same one after a reload, another one in
 * another tab, also in one that was duplicated. The names are `name`, `name.2`, `name.3`, …; one that was a closed tab's is used
 * again, so that tabs that come and go don't use up the user's web sessions. Give each user a name of their own.
 */
export function tabStorage(
  name: string, options?: { factory?: IDBFactory; locks?: LockManager; session?: globalThis.Storage },
): Promise<Storage>;

/**
 * Where a device keeps what it knows. A main's holds the whole history, a sub's its copy and its outbox. Write your own with
 * these five methods; `test/support/contract.mjs` is the contract as tests. All values are plain JSON. Each call resolves or
 * rejects, also when the storage is taken away meanwhile: the client waits for it.
 */
export interface Storage {
  /** Opens it, and gives everything but the messages. Called first. `outbox` ascending by `n`. */
  load(): Promise<{ values: Record<string, unknown>; chats: StoredChat[]; outbox: Outgoing[] }>;
  /**
   * All of it or nothing, and durable when it resolves: the client acknowledges after that. Calls take effect in their
   * order, also when several are under way. Everything is known by its id (chats), (chat, seq) (messages), key (outbox), name
   * (values) and replaces what was there.
   */
  write(changes: Changes): Promise<void>;
  /** The newest `limit` messages of a chat below `before`, ascending. Sees every `write` that was called before. */
  messages(chat: string, options: { before: number; limit: number }): Promise<Message[]>;
  /** Forgets everything (the device was ended). It can be loaded again, empty. */
  clear(): Promise<void>;
  close(): Promise<void>;
  /**
   * May be left out. Takes the storage for this client alone, before it is loaded; false: somebody else has it. `force`: takes it
   * from them. `watch` is to be called when the storage notices by itself that it isn't this client's any more, with an error that
   * methods reject with, too: the code `storage_lost` says that it was emptied, `replaced` that somebody else has taken it.
   */
  claim?(options: { force: boolean; watch: (error: KeepstepError) => void }): Promise<boolean>;
}
export interface Changes {
  /** A value of null removes the name. */
  values?: Record<string, unknown>;
  chats?: StoredChat[];
  messages?: Message[];
  outbox?: Outgoing[];
  /** Keys of the outbox. */
  removeOutbox?: string[];
  /** Ids; their messages go with them. */
  removeChats?: string[];
}
/** What the client keeps of a chat. Storage only has to know `id`; keep unknown fields. */
export interface StoredChat { id: string; [field: string]: unknown }
