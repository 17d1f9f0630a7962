//! The exclusive lease of one piece of work, over all edges and the tasks of this one.

use std::time::Duration;

use super::Core;
use crate::protocol::{ErrorCode, Problem};

/// The lease expires after this, unless it is renewed: the longest wait for a dead edge.
const LEASE: Duration = Duration::from_secs(5);
/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(2);
/// Between two attempts to acquire it; a hundred of them.
const TRY: Duration = Duration::from_millis(50);

/// Waits for the lease, at most 5 s, does the work, and releases it.
///
/// # Errors
/// `unavailable` when another holds it all the time; the work's own.
pub(super) async fn with_lease<T>(
    core: &Core,
    name: &str,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let holder = format!("{}.{}", core.edge.name, crate::rng::uuid().simple());
    let mut tries = 0;
    while !core.store.try_acquire_lease(name, &holder, LEASE).await? {
        tries += 1;
        if tries == 100 {
            return Err(Problem::new(
                ErrorCode::Unavailable,
                "somebody else is changing the same device, membership or chat: try again",
            ));
        }
        tokio::time::sleep(TRY).await;
    }
    let renewed = async {
        loop {
            tokio::time::sleep(RENEWAL).await;
            // If it is lost meanwhile, the work continues: each of its steps checks again before it changes anything.
            let _ = core.store.try_acquire_lease(name, &holder, LEASE).await;
        }
    };
    let done = tokio::select! {
        biased;
        done = work => done,
        never = renewed => never,
    };
    // If this fails, it expires.
    let _ = core.store.release_lease(name, &holder).await;
    done
}
