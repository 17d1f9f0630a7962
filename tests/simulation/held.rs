//! What devices hold of their queues, all chats together: a bound that no history of clients shows.

use std::{collections::BTreeMap, time::Duration};

use keepstep::{domain::id::DeviceId, simulation::queue::At};
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Stage, World};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// For so long it may be more: of a connection that ends one chat's queue may show the consumer and another chat's the next
/// connection's, so that two look like one.
const HANDOVER: Duration = Duration::from_secs(3);

/// Looks at all devices again and again, until the run is over. Each connection may hold twice the window (64 at least), and
/// the first of each queue.
pub async fn watch(world: World, window: usize) -> Vec<String> {
    let most = (2 * window).max(64) as u64;
    let mut over: BTreeMap<DeviceId, Instant> = BTreeMap::new();
    while world.stage() != Stage::Over {
        for device in world.devices() {
            let (mut held, mut consumers, mut connections) = (0u64, 0, 0);
            for queue in world.broker().queues_of(device.id).await.0 {
                // One that has just gone isn't counted any more; one beside a newer one is.
                connections = connections.max(queue.consumers);
                consumers += queue.consumers;
                world.broker().each(queue.chat, device.id, |_, at| held += u64::from(at == At::InFlight));
            }
            if held <= connections * most + consumers {
                over.remove(&device.id);
            } else if over.entry(device.id).or_insert_with(Instant::now).elapsed() > HANDOVER {
                return vec![format!(
                    "invariant 19 at {:.3} ms: {} has {held} messages in flight on {connections} connections, and {most} are \
                     the most of one beside the first of each queue",
                    world.shared().now() as f64 / 1000.0,
                    device.id
                )];
            }
        }
        let _ = timeout(PAUSE, world.after(world.stage())).await;
        sleep(Duration::from_millis(1)).await;
    }
    Vec::new()
}
