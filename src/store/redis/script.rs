//! The Lua scripts: one per file, one hash slot each, run by their digest.
//!
//! A script that begins with `#!lua flags=allow-oom` (Redis 7) also runs when Redis is out of memory: it holds what is
//! held already (leases, the edge's name, the store's clock), frees something (acknowledgements, trimming,
//! terminations), or guards what does. What it adds is small, and bounded by the existing devices and chats. Redis
//! refuses all other scripts before they have changed anything.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, ToRedisArgs};

/// A script and the number of its keys.
#[derive(Debug)]
pub(super) struct Script {
    source: &'static str,
    keys: usize,
    digest: LazyLock<String>,
}

macro_rules! scripts {
    ($($name:ident = $file:literal, $keys:literal;)*) => {
        $(
            #[doc = concat!("`lua/", $file, ".lua`")]
            pub(super) static $name: Script = {
                const SOURCE: &str = include_str!(concat!("../lua/", $file, ".lua"));
                Script {
                    source: SOURCE,
                    keys: $keys,
                    digest: LazyLock::new(|| redis::Script::new($name.source()).get_hash().to_owned()),
                }
            };
        )*
        static ALL: &[&Script] = &[$(&$name),*];
    };
}

scripts! {
    ACTIVATE_DEVICE = "activate_device", 1;
    APPEND = "append", 12;
    ARRIVED = "arrived", 1;
    ATTACH = "attach", 5;
    AUDIT = "audit", 2;
    DENY_INVITES = "deny_invites", 2;
    FENCE_DEVICE = "fence_device", 2;
    BLOCK = "block", 3;
    TOMBSTONE_CHAT = "tombstone_chat", 1;
    CHARGE = "charge", 1;
    CHAT_OF_MEMBER = "chat_of_member", 2;
    CLAIM_DEVICE = "claim_device", 1;
    CLAIM_EDGE = "claim_edge", 1;
    CLOSE_SESSION = "close_session", 1;
    CONFIRM_SESSION = "confirm_session", 1;
    COUNT = "count", 1;
    CREATE_CHAT = "create_chat", 3;
    DECIDE_LINK = "decide_link", 2;
    DELETE_CHAT = "delete_chat", 19;
    UNSUBSCRIBE_DEVICE = "unsubscribe_device", 5;
    DUE_DEVICES = "due_devices", 1;
    EDGE_ALIVE = "edge_alive", 3;
    END_DEVICE = "end_device", 1;
    EMPTIED = "emptied", 2;
    END_INVITATION = "end_invitation", 2;
    ENLIST = "enlist", 1;
    TOMBSTONE_DEVICE = "tombstone_device", 1;
    EXPIRE_DEVICE = "expire_device", 1;
    FORGET_EDGE = "forget_edge", 4;
    UNREGISTER = "unregister", 4;
    FORGET_UNBORN = "forget_unborn", 1;
    INDEX_CHAT = "index_chat", 1;
    INVITE = "invite", 2;
    JOIN = "join", 5;
    EXPIRE_SESSION = "expire_session", 1;
    LEAVE = "leave", 5;
    ALLOW_INVITES = "allow_invites", 2;
    LOG = "log", 3;
    LOG_BEFORE = "log_before", 3;
    MOVE_CHAT = "move_chat", 1;
    MOVE_CURSORS = "move_cursors", 4;
    MOVE_READ = "move_read", 2;
    REGISTER = "register", 3;
    REGISTER_SENDER = "register_sender", 5;
    OPEN_LINK = "open_link", 5;
    OPEN_SESSION = "open_session", 1;
    OUTBOX = "outbox", 4;
    OUTBOX_SIZE = "outbox_size", 3;
    OVERFULL = "overfull", 5;
    SUBSCRIBE_DEVICE = "subscribe_device", 4;
    PRUNE_READS = "prune_reads", 2;
    RAISE_HEAD = "raise_head", 1;
    REGISTER_DEVICE = "register_device", 3;
    RELEASE_LEASE = "release_lease", 1;
    RELEASE_EDGE = "release_edge", 1;
    REPORT = "report", 1;
    REPORTS = "reports", 1;
    SAME_STORE = "same_store", 2;
    SAVE_TERMINATION = "save_termination", 1;
    SETTLE_LINK = "settle_link", 2;
    STANCE = "stance", 3;
    COMPARE_AND_SET = "compare_and_set", 1;
    ACQUIRE_LEASE = "acquire_lease", 1;
    PUBLISH_TYPING = "publish_typing", 1;
    TRIM = "trim", 13;
    UNBLOCK = "unblock", 2;
    UNINDEX_CHAT = "unindex_chat", 3;
    WARN_DEVICE = "warn_device", 1;
}

/// Returns the commands that load all scripts into Redis.
pub(super) fn load_all() -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(ALL.len());
    for script in ALL {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.source());
    }
    pipeline
}

impl Script {
    /// Returns the script's text, for a connection that may not know it yet.
    pub(super) fn source(&self) -> &'static str {
        self.source
    }

    /// Returns a call: first the keys, in the order of the script's head comment, then its arguments.
    pub(super) fn call(&'static self) -> Call {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&*self.digest).arg(self.keys);
        Call { command }
    }
}

/// One call of a script.
#[derive(Debug, Clone)]
pub(super) struct Call {
    command: Cmd,
}

impl Call {
    /// Adds the next key or argument.
    pub(super) fn arg(mut self, value: impl ToRedisArgs) -> Self {
        self.command.arg(value);
        self
    }

    pub(super) fn command(&self) -> &Cmd {
        &self.command
    }
}
