//! Links: pages that wait to become a device of some user. A link expires a while after its lifetime.

use std::time::Duration;

use super::{Result, Store};
use crate::domain::{
    id::{DeviceId, LinkId, UserId},
    link::{Decision, Link, LinkCode},
};

/// A link to be opened.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// The link's id.
    pub id: LinkId,
    /// The link's code.
    pub code: LinkCode,
    /// The SHA-256 of the link's secret, in hexadecimal digits.
    pub secret: String,
    /// The name of the new device.
    pub name: String,
    /// The platform of the new device.
    pub platform: String,
    /// The only user who may decide; none: any user who has the code.
    pub bound: Option<UserId>,
    /// The share that the link counts against: an address, or a user.
    pub share: String,
    /// The neighbourhood that the link counts against, of an address; none: the share is a user's.
    pub neighbourhood: Option<String>,
    /// How long a decision is possible.
    pub lifetime: Duration,
    /// How long the link is kept after that, so that the asking page can read the outcome.
    pub kept: Duration,
}

/// The result of [`Store::open_link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOpened {
    /// The link awaits a decision.
    Opened,
    /// Another link has the code: generate another code.
    CodeTaken,
    /// As many links as allowed are waiting.
    Full,
    /// The share or the neighbourhood has so many waiting links that the places left are reserved for others.
    ShareTaken,
}

/// How the registration of a link's device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkOutcome {
    /// The device exists.
    Registered,
    /// It can't be registered now, and the link awaits a new decision.
    Undecided,
}

/// The result of [`Store::decide_link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decided {
    /// The decision is in force, now or since the same decision was made before. With yes, this is the device's id.
    Counts(DeviceId),
    /// The user has decided otherwise before.
    Otherwise,
    /// This user has no such link, the link's time is over, or another user has decided.
    Gone,
}

impl Store {
    /// Opens a link. Refuses it if `most` links await a decision already; if this share has as many as an eighth of the
    /// free places; or if this neighbourhood has as many as a quarter of them (both rounded up). The fewer places are
    /// free, the less one share may take, so that some are left for others.
    pub async fn open_link(&self, new: &NewLink, most: u64) -> Result<LinkOpened> {
        each!(self.open_link(new, most))
    }

    /// Returns a link by its id. Returns none if it doesn't exist (any more).
    pub async fn link(&self, id: LinkId) -> Result<Option<Link>> {
        each!(self.link(id))
    }

    /// Returns a link by its code, in two steps: a code belongs to one link as long as the link exists.
    pub async fn link_by_code(&self, code: LinkCode) -> Result<Option<Link>> {
        each!(self.link_by_code(code))
    }

    /// Decides a link, once: the first decision within the link's lifetime is in force. The same decision again (user,
    /// main, yes or no, history) gets the same result, also after the lifetime.
    pub async fn decide_link(&self, id: LinkId, decision: &Decision) -> Result<Decided> {
        each!(self.decide_link(id, decision))
    }

    /// Ends the registration of a link's device. No-op unless this device is being registered for the link at this moment.
    pub async fn settle_link(&self, id: LinkId, device: DeviceId, outcome: LinkOutcome) -> Result<()> {
        each!(self.settle_link(id, device, outcome))
    }
}
