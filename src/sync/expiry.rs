//! Terminates devices that nobody has seen for long: a sub after a month, a main after half a year, with a warning to the
//! user's other devices a week before; and unfinished registrations after a day. One edge does it for all. Each device is
//! checked when it is due, and then rescheduled: to its warning, to its end, or by a day. The checks have a budget (`budget`): if
//! more are due, the longest overdue comes first.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::instrument::Instrument;

use super::{
    Core,
    budget::{Kind, Sweep},
    connect, termination,
};
use crate::{
    domain::{
        Millis,
        device::{Device, DeviceKind, DeviceState},
        id::{DeviceId, UserId},
    },
    protocol::{DeviceEvent, Problem},
    spans,
    store::Result as Stored,
};

/// The name of this leased work.
const WORK: &str = "expiry";
/// The most devices that are read at a time.
const PAGE: usize = 256;
/// Commands that such a read costs, and the check of one device.
const OF_A_PAGE: usize = 3;
const OF_A_DEVICE: usize = 3;
/// The longest delay until the next check: settings may change.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A termination has its own work; one that was cut off before its record was written is begun again after this.
const AGAIN: Duration = Duration::from_secs(60);

pub(super) async fn run(core: Arc<Core>) {
    let mut ticks = interval(core.timing.reconcile);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sweep = Sweep::new(&core, Kind::Expiry);
    loop {
        ticks.tick().await;
        let work = async {
            let passed =
                match core.store.try_acquire_lease(WORK, &core.edge.name, core.timing.reconcile * 3).await {
                    Ok(true) => pass(&core, &sweep).await,
                    // Another edge does it.
                    Ok(false) => Ok(()),
                    Err(error) => Err(error),
                };
            if let Err(error) = passed {
                tracing::debug!(%error, "unseen devices not checked; will retry");
            }
        };
        work.instrument(spans::round(WORK)).await;
    }
}

/// Checks what is due, for as long as the lease lasts.
async fn pass(core: &Arc<Core>, sweep: &Sweep<'_>) -> Stored<()> {
    let (begun, period) = (Instant::now(), core.timing.reconcile);
    while begun.elapsed() < period {
        // As many as a period has time for.
        let most = (sweep.rate() * period.as_secs_f64()) as usize / OF_A_DEVICE;
        let most = most.clamp(1, PAGE);
        sweep.spend(OF_A_PAGE).await;
        let (now, due) = core.store.due_devices(most).await?;
        let is_all = due.len() < most;
        for (user, device) in due {
            sweep.spend(OF_A_DEVICE).await;
            let until = look(core, &user, device, now).await.unwrap_or_else(|problem| {
                tracing::warn!(%device, error = %problem, "expiry check failed; will retry");
                Some(now.saturating_add(millis(AGAIN)))
            });
            core.store.put_off(&user, device, until).await?;
        }
        if is_all {
            sweep.went_round(begun);
            break;
        }
    }
    Ok(())
}

/// Returns when this device is due again; none: it is gone.
async fn look(core: &Arc<Core>, user: &UserId, id: DeviceId, now: Millis) -> Result<Option<Millis>, Problem> {
    let Some(device) = core.store.device(user, id).await? else {
        // Terminated, refused at its registration, or being written: then the registration is claiming the id.
        let owner = core.store.owner(id).await?;
        let coming = owner.is_some_and(|owner| owner.user == *user && owner.terminated.is_none());
        return Ok(coming.then(|| now + millis(DAY)));
    };
    let (expire, warning) = (after(core, &device), millis(core.timing.expire_warning));
    let end = device.last_seen.saturating_add(expire);
    let day = now.saturating_add(millis(DAY));
    match (device.state, device.expires) {
        (DeviceState::Terminating, _) => end_it(core, &device, now).await,
        _ if device.online() => Ok(Some(day.min(now.saturating_add(expire.saturating_sub(warning))))),
        (DeviceState::Registering, _) if now >= end => end_it(core, &device, now).await,
        (DeviceState::Registering, _) => Ok(Some(end.min(day))),
        (DeviceState::Active, Some(told)) if now >= told => end_it(core, &device, now).await,
        (DeviceState::Active, Some(told)) => Ok(Some(told)),
        (DeviceState::Active, None) if now >= end.saturating_sub(warning) => {
            // Not earlier than announced, even if nobody checked for long.
            let at = end.max(now.saturating_add(warning));
            if core.store.warn_device(&device, at).await? {
                tracing::info!(device = %device.id, at, "device not seen for long: it will be terminated");
                connect::publish_event_at(core, user, id, DeviceEvent::Expiring, at).await;
                return Ok(Some(at));
            }
            // It was seen meanwhile.
            Ok(Some(now))
        }
        (DeviceState::Active, None) => Ok(Some(day.min(end.saturating_sub(warning)))),
    }
}

async fn end_it(core: &Arc<Core>, device: &Device, now: Millis) -> Result<Option<Millis>, Problem> {
    // By the store's own clock, too: Redis's may have jumped since the warning.
    let notice = match device.state {
        DeviceState::Registering => Duration::from_millis(after(core, device)),
        _ => core.timing.expire_warning,
    };
    if !core.store.expire_device(device, notice).await? {
        // It was seen meanwhile, or its time isn't over.
        return Ok(Some(now.saturating_add(millis(core.timing.reconcile))));
    }
    termination::begin(core, &device.user, device.id, "expired").await?;
    Ok(Some(now.saturating_add(millis(AGAIN))))
}

fn after(core: &Core, device: &Device) -> u64 {
    let expire = match device.kind {
        DeviceKind::Main => core.timing.mains_expire,
        DeviceKind::Sub => core.timing.subs_expire,
    };
    millis(if device.state == DeviceState::Registering { expire.min(DAY) } else { expire })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
