//! The Lua scripts: one a file, one hash slot each, run by their digest.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, ToRedisArgs};

use crate::planted;

/// A script and how many keys it is given.
#[derive(Debug)]
pub(super) struct Script {
    source: LazyLock<&'static str>,
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
                    source: LazyLock::new(|| planted::script($file, SOURCE)),
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
    APPEND = "append", 8;
    ARRIVED = "arrived", 1;
    ATTACH = "attach", 5;
    BAR_DEVICE = "bar_device", 2;
    BURY_CHAT = "bury_chat", 1;
    CHAT_OF_MEMBER = "chat_of_member", 2;
    CLAIM_DEVICE = "claim_device", 1;
    CLAIM_EDGE = "claim_edge", 1;
    CLOSE_SESSION = "close_session", 1;
    COUNT = "count", 1;
    CREATE_CHAT = "create_chat", 3;
    DECIDE_LINK = "decide_link", 2;
    DELETE_CHAT = "delete_chat", 13;
    DISOWN = "disown", 4;
    DUE_DEVICES = "due_devices", 1;
    EDGE_ALIVE = "edge_alive", 3;
    END_DEVICE = "end_device", 1;
    ENTOMB_DEVICE = "entomb_device", 1;
    EXPIRE_DEVICE = "expire_device", 1;
    FORGET_EDGE = "forget_edge", 4;
    FORGET_NOTE = "forget_note", 4;
    FORGET_UNBORN = "forget_unborn", 1;
    INDEX_CHAT = "index_chat", 1;
    JOIN = "join", 5;
    LAPSE_SESSION = "lapse_session", 1;
    LEAVE = "leave", 5;
    LOG = "log", 3;
    MOVE_CHAT = "move_chat", 1;
    MOVE_CURSORS = "move_cursors", 4;
    MOVE_READ = "move_read", 2;
    NOTE = "note", 3;
    NOTE_CHAT = "note_chat", 5;
    OPEN_LINK = "open_link", 3;
    OPEN_SESSION = "open_session", 1;
    OUTBOX = "outbox", 4;
    OUTBOX_SIZE = "outbox_size", 3;
    OWE = "owe", 4;
    PRUNE_READS = "prune_reads", 2;
    RAISE_HEAD = "raise_head", 1;
    REGISTER_DEVICE = "register_device", 2;
    RELEASE = "release", 1;
    RELEASE_EDGE = "release_edge", 1;
    RENEW_SESSION = "renew_session", 1;
    REPORT = "report", 1;
    REPORTS = "reports", 1;
    SAME_STORE = "same_store", 2;
    SAVE_TERMINATION = "save_termination", 1;
    SETTLE_LINK = "settle_link", 2;
    SWAP = "swap", 1;
    TAKE_WORK = "take_work", 1;
    TELL_TYPING = "tell_typing", 1;
    TRIM = "trim", 7;
    UNINDEX_CHAT = "unindex_chat", 2;
    WARN_DEVICE = "warn_device", 1;
}

/// Teaches Redis all of them.
pub(super) fn load_all() -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(ALL.len());
    for script in ALL {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.source());
    }
    pipeline
}

impl Script {
    /// Its text, for a connection that may not know it yet.
    pub(super) fn source(&self) -> &'static str {
        *self.source
    }

    /// A call: first the keys, in the order of the script's head comment, then its arguments.
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
    /// The next key or argument.
    pub(super) fn arg(mut self, value: impl ToRedisArgs) -> Self {
        self.command.arg(value);
        self
    }

    pub(super) fn command(&self) -> &Cmd {
        &self.command
    }
}
