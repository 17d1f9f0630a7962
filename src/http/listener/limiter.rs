//! Limits of connections: in all, by address, and the rate at which an address opens them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{
    network::Network,
    rate::{Rate, Verdict},
};

/// The burst of an address is this part of its rate per second. It is small, because other connections wait meanwhile.
const BURST: u32 = 10;
/// Addresses with a full burst are forgotten when there are this many.
const PRUNE: usize = 1_024;

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_network: HashMap<Network, usize>,
    paces: HashMap<Network, Rate>,
    prune_at: usize,
}

/// See the module. Clones share one count.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimiter {
    counts: Arc<Mutex<Counts>>,
    most: usize,
    most_of_one: usize,
    pace: u32,
}

/// A counted connection. Dropping it uncounts it.
#[derive(Debug)]
pub(super) struct Connection(ConnectionLimiter);

/// A client's count, until the last clone is dropped. Each request carries one, so that a socket, which leaves the
/// connection's task, stays counted.
#[derive(Debug, Clone)]
pub struct Permit {
    client: Arc<ClientCount>,
    // A socket outlives the connection's task.
    _connection: Arc<Connection>,
}

#[derive(Debug)]
struct ClientCount(ConnectionLimiter, IpAddr);

impl Permit {
    /// Returns the client's address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.client.1
    }
}

impl ConnectionLimiter {
    /// Returns a limiter. `pace`: connections that an address may open per second.
    pub(super) fn new(most: usize, most_of_one: usize, pace: u32) -> Self {
        Self { counts: Arc::default(), most, most_of_one, pace }
    }

    /// Counts a connection. None: there are too many.
    pub(super) fn connect(&self) -> Option<Arc<Connection>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.most {
            return None;
        }
        counts.all += 1;
        Some(Arc::new(Connection(self.clone())))
    }

    /// Counts a connection, or a request through a proxy, for a client. None: it has too many.
    pub(super) fn enter(&self, address: IpAddr, connection: &Arc<Connection>) -> Option<Permit> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let own = counts.by_network.entry(address.into()).or_default();
        if *own >= self.most_of_one {
            return None;
        }
        *own += 1;
        Some(Permit { client: Arc::new(ClientCount(self.clone(), address)), _connection: connection.clone() })
    }

    /// Returns how long a new connection, or a request through a proxy, has to wait.
    pub(super) fn wait(&self, address: IpAddr) -> Duration {
        let (now, network) = (Instant::now(), Network::from(address));
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.paces.len() >= counts.prune_at.max(PRUNE) {
            counts.paces.retain(|_, pace| !pace.is_full(now));
            counts.prune_at = counts.paces.len() * 2;
        }
        let pace = counts.paces.entry(network);
        let pace = pace.or_insert_with(|| Rate::new(self.pace, self.pace.div_ceil(BURST), now));
        match pace.frame(now, Duration::MAX) {
            Verdict::Delay(wait) => wait,
            Verdict::Take | Verdict::Refuse => Duration::ZERO,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
    }
}

impl Drop for ClientCount {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let network = Network::from(self.1);
        if let Some(count) = counts.by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                counts.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/http/listener/limiter.rs"]
mod tests;
