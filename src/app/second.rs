//! The playground's second edge: another hub and listener over the same embedded store and broker, so that a device can move
//! between edges in one process. It has no health and metrics of its own.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use warp::{filters::BoxedFilter, reply::Response};

use super::{AppError, listen};
use crate::{
    broker::Broker,
    config::{AllowedOrigins, Config},
    drain::Drain,
    http::{self, Context, assets::Assets},
    metrics::Metrics,
    store::Store,
    sync::{Core, console},
    tokens::Tokens,
};

/// See the module. It listens, and doesn't serve yet.
#[derive(Debug)]
pub(super) struct Second {
    pub core: Arc<Core>,
    pub api: TcpListener,
    pub address: SocketAddr,
    context: Context,
}

impl Second {
    /// `on`: where to listen; port 0 is any free one.
    pub(super) async fn build(
        config: &Config,
        on: SocketAddr,
        (store, broker): (Store, Broker),
        tokens: Tokens,
        drain: Drain,
    ) -> Result<Self, AppError> {
        let api = listen(on).await?;
        let address = api.local_addr().map_err(|reason| AppError::Listen { address: on, reason })?;
        let edge = format!("{}-2", config.edge);
        let (limits, timing) = (config.limits.clone(), config.timing.clone());
        let metrics = Metrics::new().map_err(super::refused)?;
        let core = Core::start(store, broker, metrics, drain, limits, timing, edge);
        core.drain.spawn_background(console::run(core.clone()));
        let mut server = config.server.clone();
        if server.allowed_origins == AllowedOrigins::SameOrigin {
            server.allowed_origins = AllowedOrigins::SameHost;
        }
        let assets = Assets::from(&config.pages);
        let context = Context::new(core.clone(), tokens, server, assets, None);
        Ok(Self { core, api, address, context })
    }

    pub(super) fn routes(&self) -> BoxedFilter<(Response,)> {
        http::api(&self.context)
    }
}
