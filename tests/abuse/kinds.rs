//! The kinds of floods.

macro_rules! kinds {
    ($($name:ident $text:literal $about:literal;)*) => {
        /// One kind; its name on the command line is in lower case with hyphens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
        pub enum Kind {
            $(#[doc = $about] $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &'static [Kind] = &[$(Kind::$name,)*];

            /// On the command line.
            pub fn name(self) -> &'static str {
                match self { $(Kind::$name => $text,)* }
            }

            /// In a few words.
            pub fn about(self) -> &'static str {
                match self { $(Kind::$name => $about,)* }
            }
        }
    };
}

kinds! {
    Pings "pings" "WebSocket pings from 36 devices, the answers read";
    UnreadPings "unread-pings" "the same, and nothing read";
    Acks "acks" "acknowledgements in chats that don't exist, from 36 devices";
    JunkPages "junk-pages" "pages of history of 100 KB that nobody asked for";
    Pieces "pieces" "a frame in empty pieces without end";
    Sends "sends" "sends as fast as they are taken, from 36 devices of 6 accounts, with reconnects";
    BadConnects "bad-connects" "upgrades with a token that is none, 64 at a time";
    Reconnects "reconnects" "36 devices that connect again and again";
    HalfBodies "half-bodies" "3,000 requests whose body stops halfway, without a token";
    Passwords "passwords" "groups with a password, 64 at a time, hung up after 1.5 ms";
    SlowReaders "slow-readers" "300 pages of messages asked for and not read";
    Lists "lists" "one account's list of 20 chats, 16 at a time";
    Devices "devices" "one account registers and ends devices, 5 at a time";
    Account "account" "one account at full tilt: every call and every frame, from 6 devices";
}
