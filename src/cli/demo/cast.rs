//! Who plays: two people and their five devices.

use serde::{Deserialize, Serialize};

/// A person of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Person {
    /// In Munich, on the way to Lisbon.
    Alice,
    /// In Lisbon.
    Bob,
}

impl Person {
    /// As the screen calls them.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alice => "Alice",
            Self::Bob => "Bob",
        }
    }
}

/// One of the two chats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// Between the two.
    Direct,
    /// Their group.
    Studio,
}

impl Room {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Direct, Self::Studio];

    /// As the screen calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "the direct chat",
            Self::Studio => "Studio Babel",
        }
    }

    /// In the JSON events.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Studio => "studio",
        }
    }
}

/// A device of the story.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Alice's main.
    AlicePhone,
    /// Alice's web session that stays.
    AliceLaptop,
    /// Alice's web session that she leaves behind.
    AliceCafe,
    /// Bob's main.
    BobPhone,
    /// Bob's web session.
    BobWeb,
}

impl Role {
    /// All, in the order of their columns.
    pub const ALL: [Self; 5] =
        [Self::AlicePhone, Self::AliceLaptop, Self::AliceCafe, Self::BobPhone, Self::BobWeb];

    /// As the screen calls it; at most 11 columns.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AlicePhone => "Alice phone",
            Self::AliceLaptop => "Alice web",
            Self::AliceCafe => "Alice café",
            Self::BobPhone => "Bob phone",
            Self::BobWeb => "Bob web",
        }
    }

    /// The head of its column.
    #[must_use]
    pub fn head(self) -> &'static str {
        match self {
            Self::AlicePhone => "AP",
            Self::AliceLaptop => "AW",
            Self::AliceCafe => "AC",
            Self::BobPhone => "BP",
            Self::BobWeb => "BW",
        }
    }

    /// In the JSON events.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::AlicePhone => "alice.phone",
            Self::AliceLaptop => "alice.web",
            Self::AliceCafe => "alice.cafe",
            Self::BobPhone => "bob.phone",
            Self::BobWeb => "bob.web",
        }
    }

    /// What it is registered as: a name for people, and what it runs on.
    #[must_use]
    pub fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::AlicePhone => ("Alice's phone", "android"),
            Self::AliceLaptop => ("Alice's laptop", "web"),
            Self::AliceCafe => ("Café PC", "web"),
            Self::BobPhone => ("Bob's phone", "ios"),
            Self::BobWeb => ("Bob's browser", "web"),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn person(self) -> Person {
        match self {
            Self::AlicePhone | Self::AliceLaptop | Self::AliceCafe => Person::Alice,
            Self::BobPhone | Self::BobWeb => Person::Bob,
        }
    }

    /// Whether it is a phone.
    #[must_use]
    pub fn is_main(self) -> bool {
        matches!(self, Self::AlicePhone | Self::BobPhone)
    }

    /// Its colour, of the 256 of terminals: of middling brightness, to be read on black and on white.
    #[must_use]
    pub fn colour(self) -> u8 {
        match self {
            Self::AlicePhone => 37,
            Self::AliceLaptop => 69,
            Self::AliceCafe => 170,
            Self::BobPhone => 172,
            Self::BobWeb => 71,
        }
    }

    /// Its place among [`Role::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}
