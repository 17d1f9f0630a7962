//! Links: pages that wait to become somebody's device. They are gone by themselves a while after their time.

use super::{Decided, LinkOpened, NewLink, Result, Store};
use crate::domain::{
    id::{DeviceId, LinkId},
    link::{Decision, Link, LinkCode},
};

impl Store {
    /// Opens a link, unless `most` are waiting for a decision already.
    pub async fn open_link(&self, new: &NewLink, most: u64) -> Result<LinkOpened> {
        each!(self.open_link(new, most))
    }

    /// A link by its id; none when it isn't there (any more).
    pub async fn link(&self, id: LinkId) -> Result<Option<Link>> {
        each!(self.link(id))
    }

    /// A link by its code. Two steps: a code is a link's for as long as the link is there.
    pub async fn link_by_code(&self, code: LinkCode) -> Result<Option<Link>> {
        each!(self.link_by_code(code))
    }

    /// Decides a link, once: the first decision in its time counts. The same one again (user, main, yes or no, history) is
    /// answered alike, also when the time is over.
    pub async fn decide_link(&self, id: LinkId, decision: &Decision) -> Result<Decided> {
        each!(self.decide_link(id, decision))
    }

    /// Ends the registration of a link's device: it is there (`approved`), or can't be made now and the link is to be
    /// decided anew. Nothing happens unless this device is just being registered for it.
    pub async fn settle_link(&self, id: LinkId, device: DeviceId, approved: bool) -> Result<()> {
        each!(self.settle_link(id, device, approved))
    }
}
