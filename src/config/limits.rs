//! Limits and durations. Each line of the two tables below is a field, a flag and an environment variable at once.

use std::time::Duration;

use super::{
    ConfigError,
    numbers::{bytes, count, duration, period, size, whole},
};
use crate::{domain::chat::Entry, protocol::WIDEST_ESCAPE};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

macro_rules! settings {
    (
        $(#[$meta:meta])* $name:ident;
        $($heading:literal {
            $($field:ident: $kind:ty = $value:expr, $shown:literal, $parser:expr, $env:literal, $doc:literal;)*
        })*
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
        pub struct $name {
            $($(
                #[doc = concat!($doc, ".")]
                #[doc = concat!(" `", $env, "`, default ", $shown, ".")]
                #[arg(long, env = $env, default_value = $shown, value_parser = $parser, help = $doc,
                    help_heading = $heading, value_name = value_name($shown))]
                pub $field: $kind,
            )*)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($($field: $value,)*)* }
            }
        }
    };
}

/// Returns the help's name for a value, by the form of its default.
fn value_name(default: &str) -> &'static str {
    match default.bytes().next() {
        _ if default.parse::<u64>().is_ok() => "N",
        Some(b'0'..=b'9') => "TIME",
        _ => "VALUE",
    }
}

settings! {
    /// Sizes, rates and counts.
    Limits;
    "Message and request sizes" {
        content_bytes: usize = 65_536, "65536", size::<usize>, "KEEPSTEP_CONTENT_BYTES",
            "Maximum size of a message's content, in bytes of UTF-8. A larger one is refused: too_large";
        memo_bytes: usize = 1_024, "1024", bytes::<usize>, "KEEPSTEP_MEMO_BYTES",
            "Maximum size of a message's memo, in bytes of UTF-8. A larger one is refused: too_large";
        meta_bytes: usize = 4_096, "4096", bytes::<usize>, "KEEPSTEP_META_BYTES",
            "Maximum size of a message's meta object, in bytes of compact JSON. A larger one is refused: too_large";
        media_bytes: usize = 65_536, "65536", bytes::<usize>, "KEEPSTEP_MEDIA_BYTES",
            "Maximum size of a message's media object with its preview, in bytes of JSON. A larger one is refused: too_large";
        name_bytes: usize = 128, "128", size::<usize>, "KEEPSTEP_NAME_BYTES",
            "Maximum length of a device, platform, chat or link name, in bytes of UTF-8. A longer one is refused: too_large";
        frame_bytes: usize = 1_048_576, "1048576", size::<usize>, "KEEPSTEP_FRAME_BYTES",
            "Maximum size of a frame from a client, in bytes as sent. Must be more than 6 times the sum of content, memo, \
             meta and media, because an encoder may escape every character. A larger frame is refused: too_large";
        history_frame_bytes: usize = 2_097_152, "2097152", bytes::<usize>, "KEEPSTEP_HISTORY_FRAME_BYTES",
            "Maximum size of a history_page frame from a main, in bytes as sent. Must be more than 6 times \
             KEEPSTEP_HISTORY_PAGE_BYTES and at least KEEPSTEP_FRAME_BYTES. A larger frame of any type is not read; \
             the socket is closed with 4413";
        history_page_messages: usize = 100, "100", count::<usize>, "KEEPSTEP_HISTORY_PAGE_MESSAGES",
            "Maximum number of messages in a page of history and of GET /v1/chats/{id}/messages. A request for more is \
             refused: bad_range";
        history_page_bytes: usize = 262_144, "262144", size::<usize>, "KEEPSTEP_HISTORY_PAGE_BYTES",
            "Maximum size of the messages in such a page, in bytes of compact JSON. A page holds at least one message, \
             whatever its size";
        body_bytes: usize = 1_048_576, "1048576", size::<usize>, "KEEPSTEP_BODY_BYTES",
            "Maximum size of an HTTP request body, in bytes as sent. Must be more than 6 times the sum of content, memo, \
             meta and media. A larger body is refused: 413 too_large";
        page: usize = 1_000, "1000", whole::<usize>, "KEEPSTEP_PAGE",
            "Maximum number of items in a page of a list; at least 1000. A request for more is refused: bad_range";
        page_members: usize = 5_000, "5000", whole::<usize>, "KEEPSTEP_PAGE_MEMBERS",
            "Maximum number of members in a page of chats, over all its chats. A page holds at least one chat, whatever its \
             size";
    }
    "Limits per device" {
        unacked_window: usize = 256, "256", count::<usize>, "KEEPSTEP_UNACKED_WINDOW",
            "Maximum number of unacknowledged messages of a device, over all its chats. At the maximum the server sends it no \
             further message";
        frames_per_second: u32 = 100, "100", count::<u32>, "KEEPSTEP_FRAMES_PER_SECOND",
            "Sustained rate of `send`, `history`, `typing`, `read` and `watch` frames of a device, per second. A message counts \
             as one more for each 16 KiB of content, and for each MiB of its copies for all devices of the chat. Above the rate \
             the server reads more slowly; after KEEPSTEP_RATE_PATIENCE it answers too_many_requests";
        frames_burst: u32 = 500, "500", whole::<u32>, "KEEPSTEP_FRAMES_BURST",
            "Number of such frames that a device may send at once after an idle time; at least KEEPSTEP_FRAMES_PER_SECOND";
        connects_per_minute: u32 = 60, "60", count::<u32>, "KEEPSTEP_CONNECTS_PER_MINUTE",
            "Connections that a device may open per minute, at each edge. A connection counts as one more for every 100 \
             chats. Further ones are refused: 429 too_many_requests";
        bad_frames_in_a_row: u32 = 10, "10", count::<u32>, "KEEPSTEP_BAD_FRAMES_IN_A_ROW",
            "Number of consecutive refused frames after which a socket is closed with 4400";
        watched_users: usize = 100, "100", whole::<usize>, "KEEPSTEP_WATCHED_USERS",
            "Maximum number of users whose presence a connection may watch. More are refused: limit_reached";
    }
    "Limits per user" {
        subs_per_user: u32 = 5, "5", whole::<u32>, "KEEPSTEP_SUBS_PER_USER",
            "Maximum number of sub devices (web sessions) of a user, besides the one main. A further one is refused: \
             limit_reached";
        devices_per_hour: u32 = 20, "20", count::<u32>, "KEEPSTEP_DEVICES_PER_HOUR",
            "Devices that a user may register per hour; terminated ones count. Further ones are refused: too_many_requests";
        devices_per_day: u32 = 60, "60", count::<u32>, "KEEPSTEP_DEVICES_PER_DAY",
            "Devices that a user may register per day; terminated ones count. Further ones are refused: too_many_requests";
        chats_per_user: u32 = 1_000, "1000", count::<u32>, "KEEPSTEP_CHATS_PER_USER",
            "Maximum number of chats of a user. A further one is refused: limit_reached";
        members_per_group: u32 = 500, "500", count::<u32>, "KEEPSTEP_MEMBERS_PER_GROUP",
            "Maximum number of members of a group. A further one is refused: limit_reached";
        user_rate_factor: u32 = 3, "3", count::<u32>, "KEEPSTEP_USER_RATE_FACTOR",
            "Rate of all devices of a user together, at each edge, as a multiple of KEEPSTEP_FRAMES_PER_SECOND and \
             KEEPSTEP_FRAMES_BURST; messages sent by HTTP count too";
        creates_per_minute: u32 = 30, "30", count::<u32>, "KEEPSTEP_CREATES_PER_MINUTE",
            "Chats created, joins, invitations and terminated devices of a user, together, per minute. Further ones are \
             refused: too_many_requests";
        invited_per_hour: u32 = 60, "60", count::<u32>, "KEEPSTEP_INVITED_PER_HOUR",
            "New chats per hour into which others may put a user. Any one of them may use a third of it. \
             Those whom the user knows may use as many again. Further ones are refused: too_many_requests";
        invites: Entry = Entry::AtOnce, "direct", clap::value_parser!(Entry), "KEEPSTEP_INVITES",
            "How a user enters a chat that others put them into. `direct`: at once. `consent`: when they accept the \
             invitation. Must be the same on every edge";
        invitations_per_user: u32 = 100, "100", count::<u32>, "KEEPSTEP_INVITATIONS_PER_USER",
            "Maximum number of pending invitations of a user, and as many again from those whom the user knows; a tenth of \
             it from any one other user. A further one is refused: limit_reached";
        blocks_per_user: u32 = 1_000, "1000", whole::<u32>, "KEEPSTEP_BLOCKS_PER_USER",
            "Maximum number of other users that a user may block. A further one is refused: limit_reached";
        passwords_per_minute: u32 = 10, "10", count::<u32>, "KEEPSTEP_PASSWORDS_PER_MINUTE",
            "Group passwords that a user may try per minute. Further ones are refused: too_many_requests";
        lists_per_minute: u32 = 1_200, "1200", count::<u32>, "KEEPSTEP_LISTS_PER_MINUTE",
            "Pages of chats, devices, messages, offsets, invitations and blocks that a user may read per minute. Further \
             requests are refused: too_many_requests";
        queue_views_per_minute: u32 = 240, "240", whole::<u32>, "KEEPSTEP_QUEUE_VIEWS_PER_MINUTE",
            "Views per minute that a user may take of the queues of own devices: a half of it from 50 chats on, a third from \
             100, and so on. Further requests are refused: too_many_requests";
        watches_per_minute: u32 = 60, "60", whole::<u32>, "KEEPSTEP_WATCHES_PER_MINUTE",
            "`watch` frames of a user per minute. Further ones are refused: too_many_requests";
        typing_members: u32 = 100, "100", whole::<u32>, "KEEPSTEP_TYPING_MEMBERS",
            "Largest number of members of a chat in which typing is passed on; 0: never. In a larger chat typing is dropped";
    }
    "Linking of web sessions" {
        links_per_minute: u32 = 600, "600", count::<u32>, "KEEPSTEP_LINKS_PER_MINUTE",
            "Links that an address (IPv6: a /64) may request per minute. The default is for load balancers that are not in \
             KEEPSTEP_TRUSTED_PROXIES, behind which all clients have one address; lower it where addresses are known. \
             Further ones are refused: too_many_requests";
        links_waiting: u32 = 10_000, "10000", count::<u32>, "KEEPSTEP_LINKS_WAITING",
            "Maximum number of undecided links. An address or a user may have an eighth of the places that are free, addresses \
             beside each other (an IPv4 /24, an IPv6 /48) a quarter. Further ones are refused: too_many_requests";
        link_tries_per_minute: u32 = 20, "20", count::<u32>, "KEEPSTEP_LINK_TRIES_PER_MINUTE",
            "Link codes that a user may look up or decide per minute. Further ones are refused: too_many_requests";
    }
    "Admin audit log" {
        audit_keep: usize = 10_000, "10000", count::<usize>, "KEEPSTEP_AUDIT_KEEP",
            "Number of the newest changes by admins that are always kept. When ten times as many are younger than \
             KEEPSTEP_AUDIT_AGE, further changes are refused: limit_reached";
        audit_age: Duration = 90 * DAY, "90d", duration, "KEEPSTEP_AUDIT_AGE",
            "How long a change is always kept";
        audit_attempts_keep: usize = 5_000, "5000", count::<usize>, "KEEPSTEP_AUDIT_ATTEMPTS_KEEP",
            "Number of the newest dry runs and refusals that are kept";
        audit_attempts_per_minute: u32 = 120, "120", count::<u32>, "KEEPSTEP_AUDIT_ATTEMPTS_PER_MINUTE",
            "Dry runs and refusals of an admin per minute. Further ones are answered too_many_requests and not recorded";
        audit_changes_per_minute: u32 = 600, "600", count::<u32>, "KEEPSTEP_AUDIT_CHANGES_PER_MINUTE",
            "Changes by an admin per minute. Further ones are refused (too_many_requests) and not recorded";
    }
    "Message log and queues" {
        log_keep: u64 = 1_000, "1000", whole::<u64>, "KEEPSTEP_LOG_KEEP",
            "Number of messages that a chat's log keeps although every device has acknowledged them; at most \
             KEEPSTEP_LOG_MESSAGES";
        log_messages: u64 = 10_000, "10000", count::<u64>, "KEEPSTEP_LOG_MESSAGES",
            "Maximum number of messages in a chat's log. Above it the oldest are removed; those that NSQ has not confirmed stay, \
             up to four times as many";
        log_bytes: u64 = 16_777_216, "16777216", size::<u64>, "KEEPSTEP_LOG_BYTES",
            "Maximum size of a chat's log, in bytes of messages. Above it the oldest are removed. At four times this size \
             and 8 MiB more, sends are refused: too_many_requests";
        log_age: Duration = 7 * DAY, "7d", period, "KEEPSTEP_LOG_AGE",
            "How long a chat's log keeps a message. Idempotency keys are kept for the same time, and at least 24h";
        user_bytes: u64 = 268_435_456, "268435456", size::<u64>, "KEEPSTEP_USER_BYTES",
            "Maximum size of a user's messages in the logs of all chats, and for KEEPSTEP_LOG_AGE in queues that a device has \
             not read, in bytes. Each message counts 128 bytes more while its key is kept (1 to 2 times KEEPSTEP_LOG_AGE). \
             Further sends are refused: limit_reached. Raise it for bots that send more than one message a second all week";
        queue_bytes: u64 = 67_108_864, "67108864", size::<u64>, "KEEPSTEP_QUEUE_BYTES",
            "Maximum size of a device's queue of one chat, in bytes of messages. A larger queue is emptied; the device is \
             sent a `gap` for what the log does not hold";
        chat_queue_bytes: u64 = 1_073_741_824, "1073741824", size::<u64>, "KEEPSTEP_CHAT_QUEUE_BYTES",
            "Maximum size of the queues of all devices of a chat, in bytes of messages, shared evenly by its devices; each \
             device may have 1 MiB in any case. A queue above its share is emptied";
    }
    "Sweeps" {
        sweep_rate: u32 = 100, "100", count::<u32>, "KEEPSTEP_SWEEP_RATE",
            "Redis commands per second that each kind of sweep may cause, in the whole deployment. The more there is to \
             visit, the longer a round takes: keepstep_sweep_round_seconds. Must be the same on every edge";
    }
}

settings! {
    /// Durations.
    Timing;
    "Sockets and delivery" {
        heartbeat: Duration = 25 * SECOND, "25s", period, "KEEPSTEP_HEARTBEAT",
            "Interval of WebSocket pings. A socket that misses two is closed with 4302";
        ack_timeout: Duration = 45 * SECOND, "45s", period, "KEEPSTEP_ACK_TIMEOUT",
            "Time for a device to acknowledge a message. After it the socket is closed with 4305";
        write_timeout: Duration = 10 * SECOND, "10s", period, "KEEPSTEP_WRITE_TIMEOUT",
            "Time over which a client must read at least 256 bytes a second while data waits for it. Otherwise the socket is closed \
             with 4301. For an HTTP response: time to read anything, and then at least 4 KiB a second";
        rate_patience: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_RATE_PATIENCE",
            "Time for which a device above its rate is only read more slowly. After it frames are refused: \
             too_many_requests";
        history_timeout: Duration = 10 * SECOND, "10s", period, "KEEPSTEP_HISTORY_TIMEOUT",
            "Time for a main to answer a history_request. After it the sub is answered main_timeout";
        offline_grace: Duration = 3 * SECOND, "3s", duration, "KEEPSTEP_OFFLINE_GRACE",
            "Time for a device to reconnect before others are told that it is offline. A terminated device is reported at once";
        main_required: bool = false, "false", clap::builder::BoolishValueParser::new(), "KEEPSTEP_MAIN_REQUIRED",
            "Close the socket of a sub with 4303 whenever its main disconnects. When false, only until the sub has sent `ready`";
        tail_check: Duration = 2 * SECOND, "2s", period, "KEEPSTEP_TAIL_CHECK",
            "Time for NSQ to deliver a message that was announced. After it the message is read from the log";
        nsq_idle: Duration = 10 * SECOND, "10s", period, "KEEPSTEP_NSQ_IDLE",
            "Time without a message after which a connected device's queue of a chat is detached. The next message attaches it \
             again. A longer time costs connections to nsqd, a shorter one an attachment more often";
        tail_sweep: Duration = 5 * SECOND, "5s", period, "KEEPSTEP_TAIL_SWEEP",
            "Least interval of checks for messages whose announcement was lost";
        reads_sweep: Duration = 5 * SECOND, "5s", period, "KEEPSTEP_READS_SWEEP",
            "Least interval of checks for read offsets and chats whose event was lost";
    }
    "Leases and reconciliation" {
        lease: Duration = 6 * SECOND, "6s", period, "KEEPSTEP_LEASE",
            "Lifetime of an edge's lease. All sockets of an edge close (4304) when no heartbeat has reached Redis for so long; \
             devices of a dead edge look online for so long";
        lease_renewal: Duration = 2 * SECOND, "2s", period, "KEEPSTEP_LEASE_RENEWAL",
            "Interval at which an edge checks that its sessions still have their devices (at most 100 a second), and of its \
             heartbeats, if it is below 1s; shorter than KEEPSTEP_LEASE, best a third of it";
        reconcile: Duration = 10 * SECOND, "10s", period, "KEEPSTEP_RECONCILE",
            "Least interval at which one edge compares the queues on every nsqd with those in Redis";
        nsqd_give_up: Duration = 120 * SECOND, "2m", duration, "KEEPSTEP_NSQD_GIVE_UP",
            "Time after which the chats of an unavailable nsqd move to others. Devices are sent a `gap` for what only its queues \
             hold. 0s: they never move";
        nsq_message_timeout: Duration = 60 * SECOND, "60s", period, "KEEPSTEP_NSQ_MESSAGE_TIMEOUT",
            "Time after which nsqd delivers again what a dead edge held. From 1s to 15m, longer than KEEPSTEP_ACK_TIMEOUT, and \
             at most the --max-msg-timeout of nsqd";
        console_refresh: Duration = 5 * SECOND, "5s", duration, "KEEPSTEP_CONSOLE_REFRESH",
            "Maximum age of the snapshot behind an admin's lists of all devices, users and orphan queues";
    }
    "Shutdown" {
        drain_acks: Duration = 2 * SECOND, "2s", duration, "KEEPSTEP_DRAIN_ACKS",
            "Time for devices to acknowledge what they were sent; shorter than KEEPSTEP_DRAIN_DEADLINE";
        drain_deadline: Duration = 10 * SECOND, "10s", period, "KEEPSTEP_DRAIN_DEADLINE",
            "Time for the whole shutdown. Let the supervisor wait at least 5 s longer before it kills";
    }
    "Expiry" {
        subs_expire: Duration = 30 * DAY, "30d", period, "KEEPSTEP_SUBS_EXPIRE",
            "Time without a connection after which a sub device is terminated";
        mains_expire: Duration = 180 * DAY, "180d", period, "KEEPSTEP_MAINS_EXPIRE",
            "Time without a connection after which a main device is terminated";
        expire_warning: Duration = 7 * DAY, "7d", duration, "KEEPSTEP_EXPIRE_WARNING",
            "How long before such a termination the user's other devices are warned; shorter than KEEPSTEP_SUBS_EXPIRE and \
             KEEPSTEP_MAINS_EXPIRE";
        link_lifetime: Duration = 120 * SECOND, "2m", period, "KEEPSTEP_LINK_LIFETIME",
            "Time for a main to approve or refuse a link";
        reinvite_after: Duration = DAY, "1d", duration, "KEEPSTEP_REINVITE_AFTER",
            "Time after leaving a chat or declining an invitation in which the same other user cannot put the user into a chat \
             again (too_many_requests). 0s: none";
    }
}

impl Limits {
    /// Checks that the numbers go together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.page < 1_000 {
            let reason = "clients may ask for pages of 1000: give at least that";
            return Err(ConfigError::value("KEEPSTEP_PAGE", reason));
        }
        let needs = |good: bool, sentence: &str| {
            if good { Ok(()) } else { Err(ConfigError::Conflict(sentence.to_owned())) }
        };
        // An encoder may write 1 byte as an escape of 6, and put spaces between.
        let escaped = |bytes: usize| bytes.saturating_mul(WIDEST_ESCAPE);
        let message = [self.content_bytes, self.memo_bytes, self.meta_bytes, self.media_bytes]
            .into_iter()
            .fold(0, usize::saturating_add);
        needs(
            escaped(message) < self.frame_bytes.min(self.body_bytes),
            "a message of KEEPSTEP_CONTENT_BYTES, KEEPSTEP_MEMO_BYTES, KEEPSTEP_META_BYTES and KEEPSTEP_MEDIA_BYTES wouldn't fit \
             into a frame, or into a body, if its encoder escapes every character (6 bytes for 1): raise KEEPSTEP_FRAME_BYTES and \
             KEEPSTEP_BODY_BYTES above 6 times their sum",
        )?;
        needs(
            escaped(self.history_page_bytes) < self.history_frame_bytes
                && self.frame_bytes <= self.history_frame_bytes,
            "a page of history wouldn't fit into its frame if its encoder escapes every character (6 bytes for 1): raise \
             KEEPSTEP_HISTORY_FRAME_BYTES above 6 times KEEPSTEP_HISTORY_PAGE_BYTES, and to at least KEEPSTEP_FRAME_BYTES",
        )?;
        needs(
            self.log_keep <= self.log_messages,
            "KEEPSTEP_LOG_KEEP (1000 unless it is set) is more than KEEPSTEP_LOG_MESSAGES, which is the most that a log holds: \
             lower the first, or raise the second",
        )?;
        needs(
            self.frames_per_second <= self.frames_burst,
            "KEEPSTEP_FRAMES_BURST is less than KEEPSTEP_FRAMES_PER_SECOND: raise it to at least that",
        )
    }
}

impl Timing {
    /// Checks that the durations go together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // nsqd refuses subscriptions beyond these bounds.
        if self.nsq_message_timeout < SECOND || self.nsq_message_timeout > 900 * SECOND {
            let reason = "nsqd takes 1s to 15m";
            return Err(ConfigError::value("KEEPSTEP_NSQ_MESSAGE_TIMEOUT", reason));
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
