//! Role: the servers themselves: which exist, whether they are up, and to which store they belong.

use std::time::Duration;

use super::{Broker, NodeHealth, Restarts};

impl Broker {
    /// Returns the servers that carry chats, and whether each is used for messages.
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, bool)> {
        now!(self.nodes())
    }

    /// Returns how long this server has received no messages because it isn't up; for a server that isn't configured,
    /// the time since it was first asked about. Returns none if the server is up. While it isn't, [`Broker::publish`]
    /// fails at once.
    #[must_use]
    pub fn down_for(&self, node: &str) -> Option<Duration> {
        match self {
            Self::Nsq(broker) => broker.down_for(node),
            _ => None,
        }
    }

    /// Returns each server's health, asked now. Waits for a server that hangs.
    pub async fn health(&self) -> Vec<NodeHealth> {
        each!(self.health())
    }

    /// Returns each server's last seen health, at most some seconds old. Sends no request.
    #[must_use]
    pub fn last_health(&self) -> Vec<NodeHealth> {
        now!(self.last_health())
    }

    /// Waits until the restarts differ from `known`, and returns them. A restarted server may show queues as they were
    /// long ago.
    pub async fn restarted(&self, known: &Restarts) -> Restarts {
        each!(self.restarted(known))
    }

    /// Claims every server durably for a store with this prefix, which has queues there, and records the store's clock.
    /// Servers that don't answer, or lose the claim, are claimed later.
    pub async fn claim(&self, prefix: &str, clock: u64) {
        each!(self.claim(prefix, clock));
    }

    /// Returns the clock of a store with this prefix at its last claim, from any server that answers. Returns none if
    /// no server knows of it.
    pub async fn claimed(&self, prefix: &str) -> Option<u64> {
        each!(self.claimed(prefix))
    }
}
