//! A snapshot of all devices and users with sums over their queues, made from the store's list of devices and the counts of each
//! broker server. See `docs/decisions/0014-the-console-looks-at-a-snapshot.md`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    MOST_QUEUES, Stamped,
    order::{self, Key, Listing, Page},
};
use crate::{
    broker::{DeviceTotals, Totals},
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState},
        id::{ChatId, DeviceId, UserId},
        now_millis,
    },
    protocol::Problem,
    sync::{Core, admin},
};

/// The most devices of a snapshot: some 100 MB.
const MOST_DEVICES: usize = 250_000;
/// Users, or queues, that are read at a time.
const PARALLEL: usize = 64;
/// Queues whose oldest message is looked up: per device, per page, and for all.
const AGES_OF_DEVICE: usize = 200;
const AGES_OF_PAGE: usize = 2_000;
const AGES_OF_ALL: usize = 20_000;

/// All devices, at one time.
#[derive(Debug)]
pub struct Snapshot {
    /// Its time.
    pub as_of: Millis,
    /// There are more devices, or queues.
    pub truncated: bool,
    /// Servers that didn't answer.
    pub unreachable: Vec<String>,
    devices: Vec<DeviceRow>,
    users: Vec<UserRow>,
    /// Non-empty queues, by device, the fullest first.
    holding: Vec<(DeviceId, ChatId, u64)>,
}

#[derive(Debug)]
struct DeviceRow {
    device: Device,
    totals: DeviceTotals,
}

impl DeviceRow {
    fn undelivered(&self) -> u64 {
        self.totals.depth + self.totals.in_flight
    }
}

#[derive(Debug)]
struct UserRow {
    user: UserId,
    online: u64,
    chats: u64,
    undelivered: u64,
    in_flight: u64,
    last_seen: Millis,
    devices: Vec<DeviceId>,
}

/// Since when each device's oldest unacknowledged message exists.
pub type Ages = HashMap<DeviceId, Millis>;

/// A device in a list.
///
/// More than 12 fields: those of the answer.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md, `GET /admin/v1/devices`")]
pub struct DeviceLine {
    pub device: DeviceId,
    pub user: UserId,
    pub kind: DeviceKind,
    pub name: String,
    pub platform: String,
    pub state: DeviceState,
    pub online: bool,
    pub edge: Option<String>,
    pub created: Millis,
    pub last_seen: Millis,
    pub expires: Option<Millis>,
    pub chats: u64,
    pub undelivered: u64,
    pub in_flight: u64,
    pub requeues: u64,
    pub consumers: u64,
    pub oldest_ms: Option<u64>,
}

/// A user in a list.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "see docs/protocol.md, `GET /admin/v1/users`")]
pub struct UserLine {
    pub user: UserId,
    pub devices: usize,
    pub online: u64,
    pub chats: u64,
    pub undelivered: u64,
    pub in_flight: u64,
    pub last_seen: Millis,
    pub oldest_ms: Option<u64>,
}

/// A page of lines.
#[derive(Debug, Clone, Serialize)]
pub struct Lines<T> {
    /// In order.
    pub items: Vec<T>,
    /// The next page's `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The number on all pages.
    pub total: usize,
    /// Its time.
    pub as_of: Millis,
    /// There is more than was read.
    pub truncated: bool,
    /// Servers that didn't answer.
    pub unreachable: Vec<String>,
}

/// Sort keys of devices; the first is the default.
pub const DEVICE_SORTS: &[&str] = &["undelivered", "oldest", "last_seen", "chats", "requeues", "user"];
/// Sort keys of users.
pub const USER_SORTS: &[&str] = &["user", "undelivered", "devices", "online", "chats", "last_seen"];

/// Returns a page of all devices, or of one user's.
///
/// # Errors
/// `bad_field`, `unavailable`.
pub async fn devices(
    core: &Arc<Core>,
    user: Option<&UserId>,
    listing: &Listing,
) -> Result<Lines<DeviceLine>, Problem> {
    let snapshot = snapshot(core).await?;
    let all = match listing.sort {
        "oldest" => Some(core.console.ages.get(core, all_ages).await?),
        _ => None,
    };
    let number = |row: &DeviceRow| match listing.sort {
        // The longest wait is the greatest.
        "oldest" => all.as_ref().and_then(|all| all.get(&row.device.id)).map_or(0, |at| Millis::MAX - at),
        "last_seen" => row.device.last_seen,
        "chats" => row.totals.queues,
        "requeues" => row.totals.requeues,
        "user" => 0,
        _ => row.undelivered(),
    };
    let page = order::page(listing, snapshot.wanted(user, listing), |row| Key {
        number: number(row),
        text: if listing.sort == "user" { row.device.user.as_str() } else { "" },
        id: *row.device.id.as_bytes(),
    })?;
    let ages = match &all {
        Some(all) => all.as_ref().clone(),
        None => snapshot.ages_of(core, page.rows.iter().map(|row| row.device.id).collect()).await,
    };
    let now = now_millis();
    let line = |row: &DeviceRow| line(row, ages.get(&row.device.id).map(|at| now.saturating_sub(*at)));
    Ok(snapshot.lines(page, line))
}

/// Returns a page of all users.
///
/// # Errors
/// `bad_field`, `unavailable`.
pub async fn users(core: &Arc<Core>, listing: &Listing) -> Result<Lines<UserLine>, Problem> {
    let snapshot = snapshot(core).await?;
    let search = listing.search.as_deref().unwrap_or("");
    let wanted = snapshot.users.iter().filter(|row| order::has(row.user.as_str(), search));
    let page = order::page(listing, wanted, |row| {
        let number = match listing.sort {
            "undelivered" => row.undelivered,
            "devices" => row.devices.len() as u64,
            "online" => row.online,
            "chats" => row.chats,
            "last_seen" => row.last_seen,
            _ => 0,
        };
        Key { number, text: row.user.as_str(), id: [0; 16] }
    })?;
    let devices = page.rows.iter().flat_map(|row| row.devices.iter().copied()).collect();
    let (ages, now) = (snapshot.ages_of(core, devices).await, now_millis());
    let line = |row: &UserRow| UserLine {
        user: row.user.clone(),
        devices: row.devices.len(),
        online: row.online,
        chats: row.chats,
        undelivered: row.undelivered,
        in_flight: row.in_flight,
        last_seen: row.last_seen,
        oldest_ms: row
            .devices
            .iter()
            .filter_map(|device| ages.get(device))
            .min()
            .map(|at| now.saturating_sub(*at)),
    };
    Ok(snapshot.lines(page, line))
}

fn line(row: &DeviceRow, oldest_ms: Option<u64>) -> DeviceLine {
    let DeviceRow { device, totals } = row;
    DeviceLine {
        device: device.id,
        user: device.user.clone(),
        kind: device.kind,
        name: device.name.clone(),
        platform: device.platform.clone(),
        state: device.state,
        online: device.online(),
        edge: device.lease.as_ref().map(|lease| lease.edge.clone()),
        created: device.created,
        last_seen: device.last_seen,
        expires: device.expires,
        chats: totals.queues,
        undelivered: row.undelivered(),
        in_flight: totals.in_flight,
        requeues: totals.requeues,
        consumers: totals.consumers,
        oldest_ms,
    }
}

async fn snapshot(core: &Arc<Core>) -> Result<Arc<Snapshot>, Problem> {
    core.console.snapshot.get(core, |core| async move { make(&core).await }).await
}

async fn make(core: &Core) -> Result<Snapshot, Problem> {
    let (as_of, begun) = (now_millis(), Instant::now());
    let totals = core.broker.totals(MOST_QUEUES).await;
    let totals = Arc::new(Stamped { as_of, value: totals });
    core.console.totals.put(totals.clone(), begun);
    let (devices, more) = all_devices(core).await?;
    let Totals { devices: sums, holding, silent, truncated, .. } = &totals.value;
    let row =
        |device: Device| DeviceRow { totals: sums.get(&device.id).copied().unwrap_or_default(), device };
    let devices: Vec<DeviceRow> = devices.into_iter().map(row).collect();
    let mut holding = holding.clone();
    holding.sort_unstable_by(|a, b| (a.0, b.2, a.1).cmp(&(b.0, a.2, b.1)));
    Ok(Snapshot {
        as_of,
        truncated: *truncated || more,
        unreachable: silent.clone(),
        users: by_user(&devices),
        devices,
        holding,
    })
}

/// Returns all devices; true: there are more.
async fn all_devices(core: &Core) -> Result<(Vec<Device>, bool), Problem> {
    let (mut users, mut count, mut next) = (BTreeSet::new(), 0, Some(0));
    while let (Some(page), true) = (next, count < MOST_DEVICES) {
        let page = core.store.known_devices(page).await?;
        (next, count) = (page.next, count + page.devices.len());
        users.extend(page.devices.into_iter().map(|(user, _)| user));
    }
    let users: Vec<UserId> = users.into_iter().collect();
    let mut devices: Vec<Device> = Vec::new();
    for some in users.chunks(1_024) {
        // Collected first: the compiler can't see that a lazily mapped stream of these is `Send`.
        let asked: Vec<_> = some.iter().map(|user| core.store.devices(user)).collect();
        let found: Vec<Vec<Device>> = stream::iter(asked).buffered(PARALLEL).try_collect().await?;
        devices.extend(found.into_iter().flatten());
    }
    let more = next.is_some() || devices.len() > MOST_DEVICES;
    devices.truncate(MOST_DEVICES);
    Ok((devices, more))
}

/// Groups devices, which come user by user.
fn by_user(devices: &[DeviceRow]) -> Vec<UserRow> {
    let sum = |rows: &[DeviceRow]| UserRow {
        user: rows[0].device.user.clone(),
        online: rows.iter().filter(|row| row.device.online()).count() as u64,
        chats: rows.iter().map(|row| row.totals.queues).max().unwrap_or(0),
        undelivered: rows.iter().map(DeviceRow::undelivered).sum(),
        in_flight: rows.iter().map(|row| row.totals.in_flight).sum(),
        last_seen: rows.iter().map(|row| row.device.last_seen).max().unwrap_or(0),
        devices: rows.iter().map(|row| row.device.id).collect(),
    };
    devices.chunk_by(|a, b| a.device.user == b.device.user).map(sum).collect()
}

/// Returns the ages for the fullest queues of all devices.
async fn all_ages(core: Arc<Core>) -> Result<Ages, Problem> {
    let snapshot = snapshot(&core).await?;
    let mut fullest: Vec<&(DeviceId, ChatId, u64)> = snapshot.holding.iter().collect();
    fullest.sort_unstable_by_key(|(_, _, held)| std::cmp::Reverse(*held));
    fullest.truncate(AGES_OF_ALL);
    Ok(ages(&core, fullest.into_iter().map(|(device, chat, _)| (*device, *chat)).collect()).await)
}

/// Failed lookups are left out.
async fn ages(core: &Core, queues: Vec<(DeviceId, ChatId)>) -> Ages {
    let asked: Vec<_> = queues
        .into_iter()
        .map(|(device, chat)| async move { (device, admin::oldest_at(core, chat, device).await) })
        .collect();
    let mut ages = Ages::new();
    let mut found = stream::iter(asked).buffer_unordered(PARALLEL);
    while let Some((device, at)) = found.next().await {
        match at {
            Ok(Some(at)) => {
                ages.entry(device).and_modify(|oldest| *oldest = at.min(*oldest)).or_insert(at);
            }
            Ok(None) => {}
            Err(problem) => {
                tracing::debug!(%device, %problem, "how long its oldest message waits isn't known")
            }
        }
    }
    ages
}

impl Snapshot {
    fn wanted<'a>(
        &'a self,
        user: Option<&'a UserId>,
        listing: &'a Listing,
    ) -> impl Iterator<Item = &'a DeviceRow> {
        let search = listing.search.as_deref();
        self.devices.iter().filter(move |DeviceRow { device, .. }| {
            user.is_none_or(|user| device.user == *user)
                && search.is_none_or(|search| {
                    order::has(device.user.as_str(), search)
                        || order::id_has(device.id.as_bytes(), search)
                        || order::has(&device.name, search)
                })
        })
    }

    async fn ages_of(&self, core: &Core, devices: Vec<DeviceId>) -> Ages {
        let each = AGES_OF_DEVICE.min(AGES_OF_PAGE / devices.len().max(1)).max(1);
        let queues = devices.into_iter().flat_map(|device| {
            let begin = self.holding.partition_point(|(other, ..)| *other < device);
            let of_device = self.holding.iter().skip(begin).take_while(move |(other, ..)| *other == device);
            of_device.take(each).map(|(device, chat, _)| (*device, *chat))
        });
        ages(core, queues.take(AGES_OF_PAGE).collect()).await
    }

    fn lines<T, L>(&self, page: Page<'_, T>, line: impl Fn(&T) -> L) -> Lines<L> {
        Lines {
            items: page.rows.into_iter().map(line).collect(),
            next: page.next,
            total: page.total,
            as_of: self.as_of,
            truncated: self.truncated,
            unreachable: self.unreachable.clone(),
        }
    }
}
