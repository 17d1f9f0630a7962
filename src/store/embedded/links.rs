//! Links.

use tokio::time::Instant;

use super::EmbeddedStore;
use crate::{
    clock::store_instant,
    domain::{
        id::{DeviceId, LinkId},
        link::{Decision, Link, LinkCode, LinkState},
    },
    store::{Decided, LinkOpened, LinkOutcome, NewLink, Result},
};

/// A link, its times, and its decision.
pub(super) struct Waiting {
    link: Link,
    share: String,
    neighbourhood: Option<String>,
    over: Instant,
    kept_until: Instant,
    decision: Option<Decision>,
}

impl Waiting {
    fn seen(&self, now: Instant) -> Link {
        Link { left: self.over.saturating_duration_since(now), ..self.link.clone() }
    }

    fn waits(&self, now: Instant) -> bool {
        self.link.state == LinkState::Pending && now < self.over
    }
}

impl EmbeddedStore {
    /// See [`crate::store::Store::open_link`].
    pub async fn open_link(&self, new: &NewLink, most: u64) -> Result<LinkOpened> {
        let (mut state, now) = (self.state(), store_instant());
        state.links.retain(|_, waiting| now < waiting.kept_until);
        if state.links.contains_key(&new.id) {
            return Ok(LinkOpened::Opened);
        }
        let (mut all, mut own, mut near) = (0, 0, 0);
        for waiting in state.links.values().filter(|waiting| waiting.waits(now)) {
            all += 1;
            own += u64::from(waiting.share == new.share);
            near += u64::from(new.neighbourhood.is_some() && waiting.neighbourhood == new.neighbourhood);
        }
        let free = most.saturating_sub(all);
        if free == 0 {
            return Ok(LinkOpened::Full);
        }
        if own >= free.div_ceil(8) || near >= free.div_ceil(4) {
            return Ok(LinkOpened::ShareTaken);
        }
        if state.links.values().any(|waiting| waiting.link.code == new.code) {
            return Ok(LinkOpened::CodeTaken);
        }
        let link = Link {
            id: new.id,
            code: new.code,
            secret: new.secret.clone(),
            name: new.name.clone(),
            platform: new.platform.clone(),
            bound: new.bound.clone(),
            state: LinkState::Pending,
            left: new.lifetime,
            decided: None,
        };
        let over = now + new.lifetime;
        let (share, neighbourhood) = (new.share.clone(), new.neighbourhood.clone());
        let kept_until = over + new.kept;
        let waiting = Waiting { link, share, neighbourhood, over, kept_until, decision: None };
        state.links.insert(new.id, waiting);
        Ok(LinkOpened::Opened)
    }

    /// See [`crate::store::Store::link`].
    pub async fn link(&self, id: LinkId) -> Result<Option<Link>> {
        let (state, now) = (self.state(), store_instant());
        let waiting = state.links.get(&id).filter(|waiting| now < waiting.kept_until);
        Ok(waiting.map(|waiting| waiting.seen(now)))
    }

    /// See [`crate::store::Store::link_by_code`].
    pub async fn link_by_code(&self, code: LinkCode) -> Result<Option<Link>> {
        let (state, now) = (self.state(), store_instant());
        let mut kept = state.links.values().filter(|waiting| now < waiting.kept_until);
        Ok(kept.find(|waiting| waiting.link.code == code).map(|waiting| waiting.seen(now)))
    }

    /// See [`crate::store::Store::decide_link`].
    pub async fn decide_link(&self, id: LinkId, decision: &Decision) -> Result<Decided> {
        let (mut state, now) = (self.state(), store_instant());
        let waiting = state.links.get_mut(&id).filter(|waiting| {
            let bound = waiting.link.bound.as_ref();
            now < waiting.kept_until && bound.is_none_or(|user| *user == decision.user)
        });
        let Some(waiting) = waiting else { return Ok(Decided::Gone) };
        if let Some(before) = &waiting.decision {
            if before.user != decision.user {
                return Ok(Decided::Gone);
            }
            let again = Decision { device: before.device, ..decision.clone() };
            return Ok(if again == *before { Decided::Counts(before.device) } else { Decided::Otherwise });
        }
        if !waiting.waits(now) {
            return Ok(Decided::Gone);
        }
        waiting.link.state = if decision.approve { LinkState::Approving } else { LinkState::Refused };
        waiting.link.decided = Some((decision.user.clone(), decision.device));
        waiting.decision = Some(decision.clone());
        Ok(Decided::Counts(decision.device))
    }

    /// See [`crate::store::Store::settle_link`].
    pub async fn settle_link(&self, id: LinkId, device: DeviceId, outcome: LinkOutcome) -> Result<()> {
        let mut state = self.state();
        let waiting = state.links.get_mut(&id).filter(|waiting| {
            waiting.link.state == LinkState::Approving
                && waiting.decision.as_ref().is_some_and(|decision| decision.device == device)
        });
        match waiting {
            Some(waiting) if outcome == LinkOutcome::Registered => waiting.link.state = LinkState::Approved,
            Some(waiting) => {
                waiting.link.state = LinkState::Pending;
                (waiting.link.decided, waiting.decision) = (None, None);
            }
            None => {}
        }
        Ok(())
    }
}
