//! Groups that an older build wrote under their very names are written under what these look like, once: by one edge, in
//! the background, after its start.

use std::{sync::Arc, time::Duration};

use futures_util::TryFutureExt;
use tracing::instrument::Instrument;

use super::Core;
use crate::{spans, store::Result};

/// The name of that work.
const WORK: &str = "names";
/// For which the right to it is taken.
const LEASE: Duration = Duration::from_secs(10);
/// Between two pages (256 of them), so that nobody notices.
const PAUSE: Duration = Duration::from_millis(20);
/// Until another try, when the store failed or another edge is at it.
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

/// True: there is nothing (more) to do.
async fn pass(core: &Core) -> Result<bool> {
    let mut page = 0;
    loop {
        if !core.store.try_acquire_lease(WORK, &core.edge, LEASE).await? {
            return Ok(false);
        }
        match core.store.move_names(page).await? {
            Some(next) => page = next,
            None => {
                core.store.release_lease(WORK, &core.edge).await?;
                return Ok(true);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}
