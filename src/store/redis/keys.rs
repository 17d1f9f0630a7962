//! All Redis key and channel names are made here. What a script touches together has the same hash tag, `{…}`, and so
//! the same slot of a cluster.

use sha2::{Digest, Sha256};

use crate::domain::{
    id::{ChatId, DeviceId, LinkId, MessageKey, TerminationId, UserId},
    link::LinkCode,
};

/// Key and channel names with one prefix.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Hash: kind, name, public, password, owner, node, created, head, lift (see `identity`; as far as it is in the
    /// head), bytes (of all messages ever), freed (of those that the log has dropped), told (how many accounts were
    /// reported), scanned (the bytes when queues were last checked), keyed (which hash of keys is written, and since
    /// when by the store's clock), version (how many have joined), epoch (rises whenever a member leaves), left_lift
    /// (the offset as far as it is in the epoch); only `deleted` once the chat is gone; only `unborn`, for a minute,
    /// while its id leaves the index because no chat ever had it.
    pub(super) fn meta(&self, chat: ChatId) -> String {
        self.of_chat(chat, "meta")
    }

    /// The number of parts of the index of all chats, so that none is large: one for each last byte of an id.
    pub(super) const CHAT_PARTS: u64 = 256;

    /// Set: one part of all chats.
    pub(super) fn all_chats(&self, part: u64) -> String {
        format!("{}:{{chats.{part}}}", self.prefix)
    }

    /// Returns the part of the index that a chat is in.
    pub(super) fn part_of(&self, chat: ChatId) -> String {
        self.all_chats(u64::from(chat.as_bytes()[15]))
    }

    /// Hash: user -> `<head when they joined> <version of the membership>`; without a version (0) in a chat's first
    /// members, and as older builds wrote it.
    pub(super) fn members(&self, chat: ChatId) -> String {
        self.of_chat(chat, "members")
    }

    /// Set of the users who were removed and not invited since.
    pub(super) fn banned(&self, chat: ChatId) -> String {
        self.of_chat(chat, "banned")
    }

    /// Sorted set: the last thousand who left, by the epoch that their leave made.
    pub(super) fn left(&self, chat: ChatId) -> String {
        self.of_chat(chat, "left")
    }

    /// Hash: a member whose queues aren't known to exist -> the version of the membership.
    pub(super) fn arriving(&self, chat: ChatId) -> String {
        self.of_chat(chat, "arriving")
    }

    /// Stream: `<seq>-0` -> the body, in field `m`: the frame, followed by a line feed and the chat's epoch if that
    /// isn't 0.
    pub(super) fn log(&self, chat: ChatId) -> String {
        self.of_chat(chat, "log")
    }

    /// Sorted set of the seqs that NSQ hasn't confirmed, by seq.
    pub(super) fn outbox(&self, chat: ChatId) -> String {
        self.of_chat(chat, "outbox")
    }

    /// List: for each trim of the log, the head, the second, the bytes that had been written by then, and
    /// `<user>:<bytes>` of those who wrote them since the one before.
    pub(super) fn ages(&self, chat: ChatId) -> String {
        self.of_chat(chat, "ages")
    }

    /// Hash: user -> what they have sent since the log was last trimmed, as count * 2^36 + bytes.
    pub(super) fn segment(&self, chat: ChatId) -> String {
        self.of_chat(chat, "segment")
    }

    /// Hash: user -> bytes of theirs in the log and of what is standing, up to the last trim.
    pub(super) fn spent(&self, chat: ChatId) -> String {
        self.of_chat(chat, "spent")
    }

    /// List: the entries of [`Self::ages`] that the log dropped while a queue may still hold their messages.
    pub(super) fn standing(&self, chat: ChatId) -> String {
        self.of_chat(chat, "standing")
    }

    /// Hash: user -> how many of their keys are in this one of the two hashes of keys.
    pub(super) fn key_counts(&self, chat: ChatId, which: u8) -> String {
        format!("{}:{{c.{}}}:kept:{which}", self.prefix, chat.hex())
    }

    /// Hash: device -> how many bytes had been appended to the chat when its queue began to fill, where the log doesn't
    /// reach back to its cursor, or the queue was emptied: it holds nothing from before.
    pub(super) fn behind(&self, chat: ChatId) -> String {
        self.of_chat(chat, "behind")
    }

    /// Hash: device -> where its subscription begins.
    pub(super) fn from(&self, chat: ChatId) -> String {
        self.of_chat(chat, "from")
    }

    /// Hash: device -> the highest seq it acknowledged.
    pub(super) fn cursor(&self, chat: ChatId) -> String {
        self.of_chat(chat, "cursor")
    }

    /// Hash: device -> the newest session that attached.
    pub(super) fn fence(&self, chat: ChatId) -> String {
        self.of_chat(chat, "fence")
    }

    /// Hash: idempotency key of a sender -> its value `<seq> <at> <fingerprint>`. One of two, which alternate.
    pub(super) fn message_keys(&self, chat: ChatId, which: u8) -> String {
        format!("{}:{{c.{}}}:keys:{which}", self.prefix, chat.hex())
    }

    /// String: the same value of one key, as older builds kept it. Expires.
    pub(super) fn message_key(&self, chat: ChatId, user: &UserId, key: MessageKey) -> String {
        format!("{}:{{c.{}}}:k:{user}:{}", self.prefix, chat.hex(), key.hex())
    }

    /// Channel that publishes a chat's new seqs and, as `typing <user>`, who types.
    pub(super) fn doorbell(&self, chat: ChatId) -> String {
        self.of_chat(chat, "bell")
    }

    /// Hash: `<device>.<field>` of each device of the user.
    pub(super) fn devices(&self, user: &UserId) -> String {
        self.of_user(user, "devices")
    }

    /// Number: the generation with which the user's newest device began.
    pub(super) fn generations(&self, user: &UserId) -> String {
        self.of_user(user, "generations")
    }

    /// String, expires after a minute: this device is just being registered.
    pub(super) fn intent(&self, user: &UserId, device: DeviceId) -> String {
        format!("{}:{{u.{user}}}:intent:{}", self.prefix, device.hex())
    }

    /// Hash: chat -> a token that is new with each join.
    pub(super) fn chats(&self, user: &UserId) -> String {
        self.of_user(user, "chats")
    }

    /// Hash: chat -> `<seq> <device or ->`, of the chats on the user's list.
    pub(super) fn read(&self, user: &UserId) -> String {
        self.of_user(user, "read")
    }

    /// Hash: chat -> `<bytes> <account>`, what it holds of the user; and `total`.
    pub(super) fn stored(&self, user: &UserId) -> String {
        self.of_user(user, "stored")
    }

    /// Hash: user -> since when this one blocks them.
    pub(super) fn blocks(&self, user: &UserId) -> String {
        self.of_user(user, "blocks")
    }

    /// Hash: chat -> `<since when> <who invites>`, the user's open invitations.
    pub(super) fn invitations(&self, user: &UserId) -> String {
        self.of_user(user, "invitations")
    }

    /// Hash: chat -> who has put the user into it, of the chats on the user's list.
    pub(super) fn put(&self, user: &UserId) -> String {
        self.of_user(user, "put")
    }

    /// String: the other user may not put this user into a chat. Expires.
    pub(super) fn bar(&self, user: &UserId, by: &UserId) -> String {
        format!("{}:{{u.{user}}}:bar:{by}", self.prefix)
    }

    /// Number: how often the user has answered: blocked or unblocked, left, accepted, declined.
    pub(super) fn answers(&self, user: &UserId) -> String {
        self.of_user(user, "answers")
    }

    /// Channel of the signals to a user.
    pub(super) fn signal(&self, user: &UserId) -> String {
        self.of_user(user, "signal")
    }

    /// Channel of the hints that a user may have come online or gone offline.
    pub(super) fn presence(&self, user: &UserId) -> String {
        self.of_user(user, "presence")
    }

    /// Hash: user, and `terminated` once it is: the tombstone. It expires a while after the device's termination is
    /// done.
    pub(super) fn owner(&self, device: DeviceId) -> String {
        format!("{}:{{d.{}}}", self.prefix, device.hex())
    }

    /// String: a termination as JSON.
    pub(super) fn termination(&self, id: TerminationId) -> String {
        format!("{}:{{t.{}}}", self.prefix, id.hex())
    }

    /// Set of the terminations that aren't done.
    pub(super) fn unfinished(&self) -> String {
        format!("{}:{{unfinished}}", self.prefix)
    }

    /// String: `<chat> <milliseconds>`, the public group whose name looks like this (see [`crate::domain::label::key`];
    /// older builds: that has this exact name).
    pub(super) fn public_name(&self, alike: &str) -> String {
        format!("{}:{{n.{}}}:public", self.prefix, digest(alike))
    }

    /// Sorted set of the groups with a password whose names look like this, by creation.
    pub(super) fn named(&self, alike: &str) -> String {
        format!("{}:{{n.{}}}:groups", self.prefix, digest(alike))
    }

    /// String: the rules under which all groups are indexed by their lookalike keys.
    pub(super) fn names(&self) -> String {
        format!("{}:{{names}}", self.prefix)
    }

    /// String: the direct chat of two users. No user id has a `|`.
    pub(super) fn pair(&self, one: &UserId, other: &UserId) -> String {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        format!("{}:{{p.{low}|{high}}}", self.prefix)
    }

    /// String: the holder of a lease of background work.
    pub(super) fn work(&self, name: &str) -> String {
        format!("{}:{{w.{}}}", self.prefix, name)
    }

    /// Number: how far the round of a sweep is: a page of the index of all chats.
    pub(super) fn sweep(&self, name: &str) -> String {
        format!("{}:{{w.{name}}}:at", self.prefix)
    }

    /// String: a counter that expires with its window.
    pub(super) fn count(&self, name: &str) -> String {
        format!("{}:{{r.{}}}", self.prefix, name)
    }

    /// Sorted set: edge -> its last heartbeat.
    pub(super) fn edges(&self) -> String {
        format!("{}:{{edges}}:alive", self.prefix)
    }

    /// Hash: edge -> how many chats and sessions are registered for it.
    pub(super) fn note_counts(&self) -> String {
        format!("{}:{{edges}}:counts", self.prefix)
    }

    /// Hash: edge -> `<process>.<term> <beat>`, the incarnation that holds the name and how many heartbeats it has sent.
    pub(super) fn edge_names(&self) -> String {
        format!("{}:{{edges}}:names", self.prefix)
    }

    /// Set of the chats registered for an edge.
    pub(super) fn notes(&self, edge: &str) -> String {
        format!("{}:{{edges}}:notes:{edge}", self.prefix)
    }

    /// Hash: chat registered for an edge -> the token of the newest registration.
    pub(super) fn note_tokens(&self, edge: &str) -> String {
        format!("{}:{{edges}}:tokens:{edge}", self.prefix)
    }

    /// Number: the token that was assigned last.
    pub(super) fn last_token(&self) -> String {
        format!("{}:{{edges}}:token", self.prefix)
    }

    /// Set of the sessions registered for an edge: `<device> <session> <user> <incarnation>`.
    pub(super) fn sessions(&self, edge: &str) -> String {
        format!("{}:{{edges}}:sessions:{edge}", self.prefix)
    }

    /// Hash: edge -> `<until> <its report>`.
    pub(super) fn reports(&self) -> String {
        format!("{}:{{edges}}:figures", self.prefix)
    }

    /// Stream: what admins changed, in field `e`.
    pub(super) fn audit(&self) -> String {
        format!("{}:{{audit}}", self.prefix)
    }

    /// The part of the audit log for attempts, which changed nothing.
    pub(super) fn audit_attempts(&self) -> String {
        format!("{}:{{audit}}:attempts", self.prefix)
    }

    /// Sorted set: `<device> <user>` of every device, by when its expiry must be checked.
    pub(super) fn due(&self) -> String {
        format!("{}:{{due}}", self.prefix)
    }

    /// Hash: code, secret (its SHA-256), name, platform, bound, share and neighbourhood (the keys of those in which it
    /// counts), state, over (until when it may be decided), and the decision: user, main, said, history, device.
    /// Expires.
    pub(super) fn link(&self, id: LinkId) -> String {
        format!("{}:{{links}}:{}", self.prefix, id.hex())
    }

    /// String: the link that has this code. Expires.
    pub(super) fn link_code(&self, code: &LinkCode) -> String {
        format!("{}:{{links}}:code:{}", self.prefix, code.compact())
    }

    /// Sorted set of the links that await a decision, by when their lifetime is over.
    pub(super) fn open_links(&self) -> String {
        format!("{}:{{links}}:open", self.prefix)
    }

    /// Sorted set of the open links of one address, neighbourhood or user. Expires.
    pub(super) fn links_of(&self, share: &str) -> String {
        format!("{}:{{links}}:of:{share}", self.prefix)
    }

    /// String: the name of this store, generated at its first use.
    pub(super) fn store(&self) -> String {
        format!("{}:{{store}}", self.prefix)
    }

    /// Hash: the store's clock and `lift`, the offset of sequence numbers (see `identity`), and the second in which the
    /// clock was last moved.
    pub(super) fn clock(&self) -> String {
        format!("{}:{{store}}:clock", self.prefix)
    }

    /// Hash that a store writes to check that keyspace events arrive.
    pub(super) fn probe(&self, id: &str) -> String {
        format!("{}:{{probe.{id}}}", self.prefix)
    }

    /// Channel on which a store reports that it found keyspace events switched off and switched them on again.
    pub(super) fn repaired(&self) -> String {
        format!("{}:{{events}}:repaired", self.prefix)
    }

    /// Returns what a message on this channel is about. Returns none for a foreign channel.
    pub(super) fn heard(&self, database: i64, channel: &str, probe_key: &str) -> Option<Heard> {
        let (name, event) = match channel.strip_prefix(&format!("__keyspace@{database}__:")) {
            Some(key) if key == probe_key => return Some(Heard::Probe),
            Some(key) => (key, true),
            None => (channel, false),
        };
        let name = name.strip_prefix(&self.prefix)?.strip_prefix(":{")?;
        let (tag, what) = name.split_once("}:")?;
        if (tag, what, event) == ("events", "repaired", false) {
            return Some(Heard::Repaired);
        }
        match (tag.split_once('.')?, what, event) {
            (("u", user), "read", true) => user.parse().ok().map(Heard::Read),
            (("u", user), "signal", false) => user.parse().ok().map(Heard::Signal),
            (("u", user), "presence", false) => user.parse().ok().map(Heard::Presence),
            (("c", chat), "bell", false) => ChatId::from_hex(chat).map(Heard::Doorbell),
            _ => None,
        }
    }

    fn of_chat(&self, chat: ChatId, what: &str) -> String {
        format!("{}:{{c.{}}}:{what}", self.prefix, chat.hex())
    }

    fn of_user(&self, user: &UserId, what: &str) -> String {
        format!("{}:{{u.{user}}}:{what}", self.prefix)
    }
}

/// The subject of a channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Read(UserId),
    Signal(UserId),
    Presence(UserId),
    Doorbell(ChatId),
    Probe,
    Repaired,
}

/// Returns the channel of a key's keyspace events in one database.
pub(super) fn keyspace(db: i64, key: &str) -> String {
    format!("__keyspace@{db}__:{key}")
}

// A group's name may contain anything, braces too, and be long: so the key contains a digest.
fn digest(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "../../../tests/unit/store/redis/keys.rs"]
mod tests;
