//! How long edges serve devices: never longer than their leases in the store, which no history of clients shows.

use std::time::Duration;

use keepstep::domain::id::DeviceId;
use tokio::time::{sleep, timeout};

use crate::world::{Stage, World};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks at all devices again and again, until the run is over.
pub async fn watch(world: World) -> Vec<String> {
    while world.stage() != Stage::Over {
        for device in world.devices() {
            if let Some(why) = outlived(&world, device.id, None).await {
                return vec![why];
            }
        }
        let _ = timeout(PAUSE, world.after(world.stage())).await;
    }
    Vec::new()
}

/// A session that goes on although the lease has run out in the store, or the device has ended (with this session as its last),
/// in words. Not where the store's clock has jumped: then its leases end when it likes.
pub async fn outlived(world: &World, device: DeviceId, last: Option<u64>) -> Option<String> {
    seems_outlived(world, device, last).await?;
    // Clocks are read by the millisecond.
    sleep(Duration::from_millis(5)).await;
    seems_outlived(world, device, last).await
}

/// The newest session of a device, as long as it hasn't ended.
pub async fn newest(world: &World, device: DeviceId) -> Option<u64> {
    let owner = world.store().owner(device).await.expect("the truth is always there")?;
    let row = world.store().device(&owner.user, device).await.expect("the truth is always there")?;
    Some(row.session)
}

async fn seems_outlived(world: &World, device: DeviceId, last: Option<u64>) -> Option<String> {
    let owner = world.store().owner(device).await.expect("the truth is always there")?;
    let row = world.store().device(&owner.user, device).await.expect("the truth is always there");
    // An older one may live on where it hears of nothing.
    let is_over = |session: u64| match &row {
        None => last == Some(session),
        Some(row) => row.session == session && !row.online(),
    };
    let edges: Vec<_> = world.edges().iter().filter(|edge| !edge.gate.is_dead()).cloned().collect();
    for edge in edges.into_iter().filter(|_| !world.has_jumped()) {
        for session in edge.core.hub.sessions_of(&owner.user) {
            let goes_on = session.mailbox.close_signal.code().is_none() && !session.lease.expired();
            if session.device == device && goes_on && is_over(session.session) {
                return Some(format!(
                    "invariant 11 at {:.3} ms: {} serves {device} (session {}), whose lease has run out or which has ended",
                    world.shared().now() as f64 / 1000.0,
                    edge.core.edge.name,
                    session.session
                ));
            }
        }
    }
    None
}
