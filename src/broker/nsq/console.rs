//! What the console asks: the totals, one queue, all registrations.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::NsqBroker;
use crate::broker::{NodeTotals, QueueAt, QueueState, Registrations, Result, Totals};

impl NsqBroker {
    /// See [`crate::broker::Broker::totals`].
    pub async fn totals(&self, most: usize) -> Totals {
        let mut totals = Totals::default();
        let nodes = &self.shared.nodes;
        // One after the other: the statistics of an nsqd with many queues are large.
        for node in nodes {
            match node.all_queues().await {
                Ok(queues) => {
                    let mut sum = NodeTotals { node: node.id().to_owned(), ..NodeTotals::default() };
                    queues.iter().for_each(|queue| totals.add(&mut sum, most, queue));
                    totals.nodes.push(sum);
                }
                Err(error) => {
                    tracing::debug!(nsqd = node.id(), %error, "no statistics");
                    totals.silent.push(node.id().to_owned());
                }
            }
        }
        totals
    }

    /// See [`crate::broker::Broker::queue_at`].
    pub async fn queue_at(&self, queue: &QueueAt) -> Result<Option<QueueState>> {
        let node = self.node(&queue.node)?;
        let found = node.queues(queue.device, Some(queue.chat)).await;
        Ok(found.map_err(|error| node.fault(&error))?.into_iter().next())
    }

    /// See [`crate::broker::Broker::registrations`].
    pub async fn registrations(&self, most: usize) -> Registrations {
        let (mut all, mut queues) = (Registrations::default(), HashSet::new());
        let lookups = &self.shared.lookups;
        let answers = join_all(lookups.iter().map(|lookup| lookup.registrations_after("", most))).await;
        for (lookup, answer) in lookups.iter().zip(answers) {
            match answer {
                Ok((found, next)) => {
                    queues.extend(found);
                    all.truncated |= next.is_some();
                }
                Err(error) => {
                    tracing::debug!(nsqlookupd = lookup.id, %error, "no registrations");
                    all.silent.push(lookup.id.clone());
                }
            }
        }
        all.queues = queues.into_iter().collect();
        all
    }
}
