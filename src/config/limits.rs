//! The numbers: how much of everything is allowed, and how long everything may take. Each line of the two tables below
//! is a field, a flag and an environment variable at once, so that these can't drift apart.

use std::time::Duration;

use super::{ConfigError, values::duration};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

macro_rules! settings {
    (
        $(#[$meta:meta])* $name:ident, $heading:literal;
        $($field:ident: $kind:ty = $value:expr, $shown:literal, $parser:expr, $env:literal, $doc:literal;)*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
        #[command(next_help_heading = $heading)]
        pub struct $name {
            $(
                #[doc = $doc]
                #[doc = concat!(" `", $env, "`, default ", $shown, ".")]
                #[arg(long, env = $env, default_value = $shown, value_parser = $parser, help = $doc, value_name = "V")]
                pub $field: $kind,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $value,)* }
            }
        }

        impl $name {
            // The names for the refusals in `check`.
            fn env_of(field: &str) -> &'static str {
                match field {
                    $(stringify!($field) => $env,)*
                    _ => "KEEPSTEP",
                }
            }
        }
    };
}

settings! {
    /// How much of everything is allowed.
    Limits, "Limits";
    content_bytes: usize = 65_536, "65536", clap::value_parser!(usize), "KEEPSTEP_CONTENT_BYTES",
        "Longest content of one message, in bytes of UTF-8";
    memo_bytes: usize = 1_024, "1024", clap::value_parser!(usize), "KEEPSTEP_MEMO_BYTES",
        "Longest memo of one message, in bytes of UTF-8";
    meta_bytes: usize = 4_096, "4096", clap::value_parser!(usize), "KEEPSTEP_META_BYTES",
        "Largest meta object of one message, in bytes of JSON";
    name_bytes: usize = 128, "128", clap::value_parser!(usize), "KEEPSTEP_NAME_BYTES",
        "Longest name of a device, a platform or a chat, in bytes of UTF-8";
    frame_bytes: usize = 131_072, "131072", clap::value_parser!(usize), "KEEPSTEP_FRAME_BYTES",
        "Largest frame from a client, in bytes";
    history_frame_bytes: usize = 524_288, "524288", clap::value_parser!(usize), "KEEPSTEP_HISTORY_FRAME_BYTES",
        "Largest history_page frame from a main, in bytes";
    history_page_messages: usize = 100, "100", clap::value_parser!(usize), "KEEPSTEP_HISTORY_PAGE_MESSAGES",
        "Most messages in one page of history";
    history_page_bytes: usize = 262_144, "262144", clap::value_parser!(usize), "KEEPSTEP_HISTORY_PAGE_BYTES",
        "Most bytes of messages in one page of history (a page has at least one message)";
    body_bytes: usize = 131_072, "131072", clap::value_parser!(usize), "KEEPSTEP_BODY_BYTES",
        "Largest body of an HTTP request, in bytes";
    unacked_window: usize = 256, "256", clap::value_parser!(usize), "KEEPSTEP_UNACKED_WINDOW",
        "Messages that a device may be sent before it acknowledges the first of them";
    subs_per_user: u32 = 5, "5", clap::value_parser!(u32), "KEEPSTEP_SUBS_PER_USER",
        "Sub devices of one user, beside the one main";
    chats_per_user: u32 = 1_000, "1000", clap::value_parser!(u32), "KEEPSTEP_CHATS_PER_USER",
        "Chats of one user";
    members_per_group: u32 = 500, "500", clap::value_parser!(u32), "KEEPSTEP_MEMBERS_PER_GROUP",
        "Members of one group";
    frames_per_second: u32 = 100, "100", clap::value_parser!(u32), "KEEPSTEP_FRAMES_PER_SECOND",
        "send, history, typing and read frames a second, together, of one device, sustained";
    frames_burst: u32 = 500, "500", clap::value_parser!(u32), "KEEPSTEP_FRAMES_BURST",
        "The same, at once after a quiet time";
    creates_per_minute: u32 = 30, "30", clap::value_parser!(u32), "KEEPSTEP_CREATES_PER_MINUTE",
        "Creates, joins and invitations a minute of one user";
    passwords_per_minute: u32 = 10, "10", clap::value_parser!(u32), "KEEPSTEP_PASSWORDS_PER_MINUTE",
        "Group passwords a minute that one user may try";
    links_per_minute: u32 = 600, "600", clap::value_parser!(u32), "KEEPSTEP_LINKS_PER_MINUTE",
        "Links a minute that one address may ask for";
    links_waiting: u32 = 10_000, "10000", clap::value_parser!(u32), "KEEPSTEP_LINKS_WAITING",
        "Links that may wait for a decision at the same time, all together";
    link_tries_per_minute: u32 = 20, "20", clap::value_parser!(u32), "KEEPSTEP_LINK_TRIES_PER_MINUTE",
        "Link codes a minute that one user may look up or decide";
    queue_views_per_minute: u32 = 240, "240", clap::value_parser!(u32), "KEEPSTEP_QUEUE_VIEWS_PER_MINUTE",
        "Looks a minute of one user at the queues of the own devices";
    bad_frames_in_a_row: u32 = 10, "10", clap::value_parser!(u32), "KEEPSTEP_BAD_FRAMES_IN_A_ROW",
        "Refused frames in a row that close a socket with 4400";
    typing_members: u32 = 100, "100", clap::value_parser!(u32), "KEEPSTEP_TYPING_MEMBERS",
        "Members of a chat up to which the others are told who types";
    watched_users: usize = 100, "100", clap::value_parser!(usize), "KEEPSTEP_WATCHED_USERS",
        "Users whose presence one connection may watch";
    watches_per_minute: u32 = 60, "60", clap::value_parser!(u32), "KEEPSTEP_WATCHES_PER_MINUTE",
        "watch frames a minute of one user";
    page: usize = 1_000, "1000", clap::value_parser!(usize), "KEEPSTEP_PAGE",
        "Most items in one page of a list";
    audit_keep: usize = 10_000, "10000", clap::value_parser!(usize), "KEEPSTEP_AUDIT_KEEP",
        "Entries of the audit log of what admins did";
    log_keep: u64 = 1_000, "1000", clap::value_parser!(u64), "KEEPSTEP_LOG_KEEP",
        "Messages that the log of one chat holds although every device has acknowledged them";
    log_messages: u64 = 10_000, "10000", clap::value_parser!(u64), "KEEPSTEP_LOG_MESSAGES",
        "Messages that the log of one chat holds at most";
    log_bytes: u64 = 16_777_216, "16777216", clap::value_parser!(u64), "KEEPSTEP_LOG_BYTES",
        "Bytes of messages that the log of one chat holds at most";
    log_age: Duration = 7 * DAY, "7d", duration, "KEEPSTEP_LOG_AGE",
        "How long the log of a chat holds a message";
}

settings! {
    /// How long everything may take.
    Timing, "Timing (durations such as 500ms, 25s, 2m, 12h, 7d)";
    heartbeat: Duration = 25 * SECOND, "25s", duration, "KEEPSTEP_HEARTBEAT",
        "Between two pings of a socket; two missed ones end it";
    ack_timeout: Duration = 45 * SECOND, "45s", duration, "KEEPSTEP_ACK_TIMEOUT",
        "For a device to acknowledge what it was sent, else its socket is closed 4305";
    history_timeout: Duration = 10 * SECOND, "10s", duration, "KEEPSTEP_HISTORY_TIMEOUT",
        "For a main to answer a history request";
    lease: Duration = 6 * SECOND, "6s", duration, "KEEPSTEP_LEASE",
        "Until a device of a dead edge is free to be taken by another";
    lease_renewal: Duration = 2 * SECOND, "2s", duration, "KEEPSTEP_LEASE_RENEWAL",
        "Between two renewals of a lease; shorter than the lease";
    tail_check: Duration = 2 * SECOND, "2s", duration, "KEEPSTEP_TAIL_CHECK",
        "After the doorbell of a message until it is fetched from the log, should NSQ not bring it";
    tail_sweep: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_TAIL_SWEEP",
        "Between two looks for messages whose doorbell was lost";
    reads_sweep: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_READS_SWEEP",
        "Between two looks for read offsets and chats whose event was lost";
    reconcile: Duration = 10 * SECOND, "10s", duration, "KEEPSTEP_RECONCILE",
        "Between two comparisons of the queues that are there with those that should be";
    nsqd_give_up: Duration = 120 * SECOND, "2m", duration, "KEEPSTEP_NSQD_GIVE_UP",
        "For an nsqd to be away until its chats move to others; 0s: they wait for it for ever";
    nsq_message_timeout: Duration = 60 * SECOND, "60s", duration, "KEEPSTEP_NSQ_MESSAGE_TIMEOUT",
        "Until nsqd gives what an edge held that died to the next; longer than ack-timeout, at most nsqd's --max-msg-timeout";
    console_refresh: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_CONSOLE_REFRESH",
        "For which an admin's lists of all devices, users and orphans aren't made anew";
    drain_acks: Duration = 2 * SECOND, "2s", duration, "KEEPSTEP_DRAIN_ACKS",
        "At a stop: for devices to acknowledge what they were sent";
    drain_deadline: Duration = 10 * SECOND, "10s", duration, "KEEPSTEP_DRAIN_DEADLINE",
        "At a stop: for everything; longer than drain-acks";
    rate_patience: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_RATE_PATIENCE",
        "For which a device over its rate is only read more slowly, before it is answered too_many_requests";
    write_timeout: Duration = 10 * SECOND, "10s", duration, "KEEPSTEP_WRITE_TIMEOUT",
        "For a client to take something of what it is sent, else its socket is closed 4301";
    subs_expire: Duration = 30 * DAY, "30d", duration, "KEEPSTEP_SUBS_EXPIRE",
        "Unseen, until a sub device is terminated";
    mains_expire: Duration = 180 * DAY, "180d", duration, "KEEPSTEP_MAINS_EXPIRE",
        "Unseen, until a main device is terminated";
    link_lifetime: Duration = 120 * SECOND, "2m", duration, "KEEPSTEP_LINK_LIFETIME",
        "For a main to approve or refuse a link";
    expire_warning: Duration = 7 * DAY, "7d", duration, "KEEPSTEP_EXPIRE_WARNING",
        "Before a device is ended because nobody sees it: when the user's other devices are told";
    main_required: bool = false, "false", clap::builder::BoolishValueParser::new(), "KEEPSTEP_MAIN_REQUIRED",
        "Whether a sub's socket is closed 4303 whenever its main goes away, even after ready (true or false)";
}

impl Limits {
    /// Whether these numbers go together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let zero = |field: &str, is_zero: bool| {
            let reason = "0 would forbid it altogether: give at least 1";
            if is_zero { Err(ConfigError::value(Self::env_of(field), reason)) } else { Ok(()) }
        };
        zero("content_bytes", self.content_bytes == 0)?;
        zero("name_bytes", self.name_bytes == 0)?;
        zero("frame_bytes", self.frame_bytes == 0)?;
        zero("body_bytes", self.body_bytes == 0)?;
        zero("history_page_messages", self.history_page_messages == 0)?;
        zero("history_page_bytes", self.history_page_bytes == 0)?;
        zero("unacked_window", self.unacked_window == 0)?;
        zero("chats_per_user", self.chats_per_user == 0)?;
        zero("members_per_group", self.members_per_group == 0)?;
        zero("frames_per_second", self.frames_per_second == 0)?;
        zero("creates_per_minute", self.creates_per_minute == 0)?;
        zero("passwords_per_minute", self.passwords_per_minute == 0)?;
        zero("links_per_minute", self.links_per_minute == 0)?;
        zero("links_waiting", self.links_waiting == 0)?;
        zero("link_tries_per_minute", self.link_tries_per_minute == 0)?;
        zero("bad_frames_in_a_row", self.bad_frames_in_a_row == 0)?;
        if self.page < 1_000 {
            let reason = "clients may ask for pages of 1000: give at least that";
            return Err(ConfigError::value(Self::env_of("page"), reason));
        }
        zero("audit_keep", self.audit_keep == 0)?;
        zero("log_messages", self.log_messages == 0)?;
        zero("log_bytes", self.log_bytes == 0)?;
        zero("log_age", self.log_age.is_zero())?;
        let needs = |good: bool, sentence: &str| {
            if good { Ok(()) } else { Err(ConfigError::Conflict(sentence.to_owned())) }
        };
        let message = self.content_bytes.saturating_add(self.memo_bytes).saturating_add(self.meta_bytes);
        needs(
            message < self.frame_bytes,
            "a message of KEEPSTEP_CONTENT_BYTES, KEEPSTEP_MEMO_BYTES and KEEPSTEP_META_BYTES wouldn't fit into a \
             frame: raise KEEPSTEP_FRAME_BYTES above their sum",
        )?;
        needs(
            self.history_page_bytes < self.history_frame_bytes
                && self.frame_bytes <= self.history_frame_bytes,
            "a page of history wouldn't fit into its frame: raise KEEPSTEP_HISTORY_FRAME_BYTES above \
             KEEPSTEP_HISTORY_PAGE_BYTES and to at least KEEPSTEP_FRAME_BYTES",
        )?;
        needs(
            self.frames_per_second <= self.frames_burst,
            "KEEPSTEP_FRAMES_BURST is less than KEEPSTEP_FRAMES_PER_SECOND: raise it to at least that",
        )
    }
}

impl Timing {
    /// Whether these durations go together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("heartbeat", self.heartbeat),
            ("ack_timeout", self.ack_timeout),
            ("history_timeout", self.history_timeout),
            ("lease", self.lease),
            ("lease_renewal", self.lease_renewal),
            ("tail_check", self.tail_check),
            ("tail_sweep", self.tail_sweep),
            ("reads_sweep", self.reads_sweep),
            ("reconcile", self.reconcile),
            ("nsq_message_timeout", self.nsq_message_timeout),
            ("drain_deadline", self.drain_deadline),
            ("write_timeout", self.write_timeout),
            ("subs_expire", self.subs_expire),
            ("mains_expire", self.mains_expire),
            ("link_lifetime", self.link_lifetime),
        ] {
            if value.is_zero() {
                return Err(ConfigError::value(Self::env_of(field), "it must be longer than 0"));
            }
        }
        // nsqd's own bounds; beyond them it takes no subscription at all.
        if self.nsq_message_timeout < SECOND || self.nsq_message_timeout > 900 * SECOND {
            let reason = "nsqd takes 1s to 15m";
            return Err(ConfigError::value(Self::env_of("nsq_message_timeout"), reason));
        }
        if self.nsq_message_timeout <= self.ack_timeout {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_NSQ_MESSAGE_TIMEOUT must be longer than KEEPSTEP_ACK_TIMEOUT (15 s longer is good), else NSQ would \
                 give a message to the device again that it still has time to acknowledge"
                    .to_owned(),
            ));
        }
        if self.lease_renewal >= self.lease {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_LEASE_RENEWAL must be shorter than KEEPSTEP_LEASE (a third of it is good), else every lease \
                 would run out before it is renewed"
                    .to_owned(),
            ));
        }
        if self.expire_warning >= self.subs_expire.min(self.mains_expire) {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_EXPIRE_WARNING must be shorter than KEEPSTEP_SUBS_EXPIRE and KEEPSTEP_MAINS_EXPIRE, else every \
                 device would be warned of from its first day on"
                    .to_owned(),
            ));
        }
        if self.drain_acks >= self.drain_deadline {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_DRAIN_ACKS must be shorter than KEEPSTEP_DRAIN_DEADLINE, which is for the whole stop"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}
