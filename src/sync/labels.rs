//! Indexes groups of older builds by what their names look like, once: by one edge, in the background, after its start.

use std::{sync::Arc, time::Duration};

use futures_util::TryFutureExt;
use tracing::instrument::Instrument;

use super::Core;
use crate::{spans, store::Result};

/// The name of this leased work.
const WORK: &str = "names";
/// The length of its lease.
const LEASE: Duration = Duration::from_secs(10);
/// Pause between two pages (256 of them), to limit the load.
const PAUSE: Duration = Duration::from_millis(20);
/// Pause before a retry, if the store failed or another edge does it.
const AGAIN: Duration = Duration::from_secs(5);

pub(super) async fn run(core: Arc<Core>) {
    loop {
        let round = pass(&core).inspect_err(|error| {
            tracing::debug!(%error, "names can't be brought up to date now");
        });
        if matches!(round.instrument(spans::round(WORK)).await, Ok(true)) {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// True: nothing (more) to do.
async fn pass(core: &Core) -> Result<bool> {
    let mut page = 0;
    loop {
        if !core.store.try_acquire_lease(WORK, &core.edge.name, LEASE).await? {
            return Ok(false);
        }
        match core.store.move_names(page).await? {
            Some(next) => page = next,
            None => {
                core.store.release_lease(WORK, &core.edge.name).await?;
                return Ok(true);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
