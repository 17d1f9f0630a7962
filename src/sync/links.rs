//! Linking: a page asks, and shows a code; a main decides; the page learns the decision, and gets its token.
//!
//! Every step can be repeated: a decision counts once and is answered alike each time, an approved device has its id from that
//! decision on, and the token is made for whoever has the link's secret.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{
    Core, connect, lock,
    registration::{self, RegisterDevice},
    signal::{self, Signal},
};
use crate::{
    domain::{
        device::{Device, DeviceKind, DeviceState},
        id::{DeviceId, LinkId, UserId},
        link::{Decision, Link, LinkCode, LinkState},
        network::{Neighbourhood, Network},
        shares::{Holder, Share, Shares},
    },
    hub::LinkRequest,
    protocol::{ErrorCode, Problem},
    store::{Decided, LinkOpened, LinkOutcome, NewLink},
    tokens::DeviceClaims,
};

/// Time after its end in which a page can still read the state of its link.
const KEPT: Duration = Duration::from_secs(120);
/// Poll interval of a waiting page's link. A decision may come on any edge; waits are few and short, so polling costs less
/// than subscriptions.
const LOOK: Duration = Duration::from_millis(500);
/// Pages that may wait on this edge: for one link (a reloaded page leaves the old one for a moment), and in all.
const WAITS_PER_LINK: usize = 4;
const WAITS: usize = 2_048;
/// Attempts to find a free code: with 10,000 of 2^30 in use, one is nearly always enough.
const CODES: usize = 8;

/// An open link.
#[derive(Debug)]
pub struct Opened {
    /// Its id.
    pub id: LinkId,
    /// Its code.
    pub code: LinkCode,
    /// The secret of the asking page.
    pub secret: String,
    /// How long it may be decided.
    pub lifetime: Duration,
}

/// Opens a link for a page in the network `from`. If it is `bound` to a user, only that user's main can decide it, and is
/// notified if connected.
///
/// # Errors
/// `too_many_requests`, `limit_reached`, `unavailable`.
pub async fn open(
    core: &Core,
    from: Network,
    bound: Option<UserId>,
    name: String,
    platform: String,
) -> Result<Opened, Problem> {
    core.limit("links", from, core.limits.links_per_minute).await?;
    if let Some(user) = &bound {
        core.limit("creates", user, core.limits.creates_per_minute).await?;
    }
    let secret = hex(&rand::random::<[u8; 32]>());
    let lifetime = core.timing.link_lifetime;
    let mut new = NewLink {
        id: LinkId::random(),
        code: LinkCode::from_bits(rand::random()),
        secret: digest(&secret),
        name,
        platform,
        // Pages of one address, of its neighbours, or of one user take no places from others.
        share: bound.as_ref().map_or_else(|| format!("a.{from}"), |user| format!("u.{user}")),
        neighbourhood: bound.is_none().then(|| format!("n.{}", from.neighbourhood())),
        bound,
        lifetime,
        kept: KEPT,
    };
    for _ in 0..CODES {
        match core.store.open_link(&new, core.limits.links_waiting.into()).await? {
            LinkOpened::Opened => {
                core.metrics.links.with_label_values(&["opened"]).inc();
                let NewLink { id, code, name, platform, bound, .. } = new;
                if let Some(user) = bound {
                    let request = LinkRequest { code: code.to_string(), name, platform };
                    signal::publish(core, &user, &Signal::LinkRequest(request)).await;
                }
                return Ok(Opened { id, code, secret, lifetime });
            }
            LinkOpened::CodeTaken => new.code = LinkCode::from_bits(rand::random()),
            LinkOpened::Full => {
                let detail = "too many pages wait to be linked: try again in two minutes";
                return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(again(lifetime)));
            }
            LinkOpened::ShareTaken => {
                let detail = "too many pages of your address, of those beside it, or of your user, wait to be linked: \
                              let one of them be decided, or try again in two minutes";
                return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(again(lifetime)));
            }
        }
    }
    Err(Problem::new(ErrorCode::Unavailable, "no code is free just now: try again"))
}

/// Returns the link to be decided.
///
/// # Errors
/// `not_found`, `too_many_requests`, `unavailable`.
pub async fn look(core: &Core, main: &Device, code: &str) -> Result<Link, Problem> {
    let link = find(core, main, code).await?;
    if link.state == LinkState::Pending && !link.left.is_zero() { Ok(link) } else { Err(no_such_link()) }
}

/// Decides a link. On approval, returns the new device, whose queues exist.
///
/// # Errors
/// `not_found`, `conflict` (the user has decided otherwise), `limit_reached` (the link stays pending), `too_many_requests`,
/// `unavailable` (repeat the same decision).
pub async fn decide(
    core: &Arc<Core>,
    main: &Device,
    code: &str,
    approve: bool,
    history: Option<u64>,
) -> Result<Option<Device>, Problem> {
    let link = find(core, main, code).await?;
    let decision =
        Decision { user: main.user.clone(), main: main.id, approve, history, device: DeviceId::random() };
    let device = match core.store.decide_link(link.id, &decision).await? {
        Decided::Counts(device) => device,
        Decided::Otherwise => {
            return Err(Problem::new(ErrorCode::Conflict, "this link was decided otherwise already"));
        }
        Decided::Gone => return Err(no_such_link()),
    };
    if !approve {
        core.metrics.links.with_label_values(&["refused"]).inc();
        return Ok(None);
    }
    let wish = RegisterDevice {
        id: Some(device),
        kind: DeviceKind::Sub,
        name: link.name,
        platform: link.platform,
        replace: false,
        history,
    };
    match registration::register(core, &main.user, wish).await {
        Ok((registered, _, new)) => {
            if new {
                core.metrics.links.with_label_values(&["approved"]).inc();
            }
            // If this fails, the page learns it from the device itself.
            core.store.settle_link(link.id, device, LinkOutcome::Registered).await?;
            Ok(Some(registered))
        }
        Err(problem) => {
            // The link waits for another decision, when there is room.
            if matches!(problem.code, ErrorCode::LimitReached | ErrorCode::TooManyRequests) {
                core.store.settle_link(link.id, device, LinkOutcome::Undecided).await?;
            }
            Err(problem)
        }
    }
}

async fn find(core: &Core, main: &Device, code: &str) -> Result<Link, Problem> {
    core.limit("link_tries", &main.user, core.limits.link_tries_per_minute).await?;
    let code: LinkCode = code.parse().map_err(|_| no_such_link())?;
    let link = core.store.link_by_code(code).await?.ok_or_else(no_such_link)?;
    // Other users can't learn whose link it is.
    if link.bound.as_ref().is_some_and(|user| *user != main.user) { Err(no_such_link()) } else { Ok(link) }
}

/// The same for every reason, so that nobody learns which codes are in use.
fn no_such_link() -> Problem {
    let detail = "there is no such link for you: the code is wrong, was used, or its time is over";
    Problem::new(ErrorCode::NotFound, detail)
}

/// The state of a link.
#[derive(Debug)]
pub enum Outcome {
    /// Not decided yet.
    Pending,
    /// Approved; the device exists.
    Approved(Box<Device>, DeviceClaims),
    /// The main refused.
    Refused,
    /// Not decided in time, or the device was terminated since.
    Expired,
}

/// Waits, for `patience` at most and while this edge runs, until the link of a page in the network `from` is decided.
///
/// # Errors
/// `not_found` (no such link, or another secret), `too_many_requests`, `unavailable`.
pub async fn wait(
    core: &Core,
    from: Network,
    id: LinkId,
    secret: &str,
    patience: Duration,
) -> Result<Outcome, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "there is no such link, or this isn't its secret");
    let until = Instant::now() + patience;
    let mut link = core.store.link(id).await?.ok_or_else(unknown)?;
    if !bool::from(digest(secret).as_bytes().ct_eq(link.secret.as_bytes())) {
        return Err(unknown());
    }
    let mut place = None;
    loop {
        match outcome(core, &link).await? {
            Outcome::Pending if Instant::now() < until && !core.drain.has_begun() => {}
            other => return Ok(other),
        }
        if place.is_none() {
            place = Some(core.admission.polls.enter(id, from)?);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.min(Instant::now() + LOOK)) => {}
            () = core.drain.begun() => {}
        }
        link = match core.store.link(id).await? {
            Some(link) => link,
            None => return Ok(Outcome::Expired),
        };
    }
}

async fn outcome(core: &Core, link: &Link) -> Result<Outcome, Problem> {
    let (user, device) = match (link.state, &link.decided) {
        (LinkState::Refused, _) => return Ok(Outcome::Refused),
        (LinkState::Approving | LinkState::Approved, Some(decided)) => decided,
        _ if link.left.is_zero() => return Ok(Outcome::Expired),
        _ => return Ok(Outcome::Pending),
    };
    // The device itself decides: the approving edge may have died just before it recorded the state.
    match core.store.device(user, *device).await? {
        Some(device) if device.state == DeviceState::Active => {
            let claims = connect::claims(&device);
            Ok(Outcome::Approved(Box::new(device), claims))
        }
        Some(device) if device.state == DeviceState::Terminating => Ok(Outcome::Expired),
        // An approval also counts if its device exists only after the link's time: the phone may repeat it.
        _ if link.state == LinkState::Approving => Ok(Outcome::Pending),
        _ => Ok(Outcome::Expired),
    }
}

impl Holder for Network {
    fn neighbours(&self) -> Option<Neighbourhood> {
        Some(self.neighbourhood())
    }
}

/// Waiting pages: a few for each link; of each address and its neighbours as many as leave room for others.
#[derive(Debug)]
pub(super) struct Polls {
    by_link: Mutex<HashMap<LinkId, usize>>,
    places: Shares<Network>,
}

/// A waiting page, until dropped.
#[derive(Debug)]
struct Place<'a> {
    polls: &'a Polls,
    link: LinkId,
    _share: Share<Network>,
}

impl Default for Polls {
    fn default() -> Self {
        Self { by_link: Mutex::default(), places: Shares::new(WAITS) }
    }
}

impl Polls {
    fn enter(&self, link: LinkId, from: Network) -> Result<Place<'_>, Problem> {
        let mut waiting = lock(&self.by_link);
        let own = waiting.get(&link).copied().unwrap_or_default();
        let share = if own < WAITS_PER_LINK { self.places.take(&from, 1) } else { None };
        let Some(share) = share else {
            let detail = "too many wait for links here: ask again in a moment, or with \"wait\" 0";
            return Err(Problem::new(ErrorCode::TooManyRequests, detail).retry_in(1));
        };
        waiting.insert(link, own + 1);
        Ok(Place { polls: self, link, _share: share })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.polls.by_link);
        if let Some(count) = waiting.get_mut(&self.link) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.link);
            }
        }
    }
}

// By then every link that waits now is decided or expired.
fn again(lifetime: Duration) -> u32 {
    u32::try_from(lifetime.as_secs().max(1)).unwrap_or(u32::MAX)
}

fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "../../tests/unit/sync/links.rs"]
mod tests;
