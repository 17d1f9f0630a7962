//! One nsqlookupd: what it remembers of queues, and whether it is up. Only deletions at nsqlookupd wait for it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use keepstep_nsq::{AdminError, LookupdAdmin};
use tokio::time::sleep;

use super::{PARALLEL, node::in_words};
use crate::{
    broker::NodeHealth,
    domain::{
        id::{ChatId, DeviceId},
        names,
    },
};

/// Topics of an nsqlookupd that are read in one call.
const REGISTRATIONS: usize = 200;
/// How often its health is checked.
const EVERY: Duration = Duration::from_secs(5);

/// One configured nsqlookupd.
#[derive(Debug)]
pub(super) struct Lookup {
    /// Its HTTP address, as configured.
    pub(super) id: String,
    pub(super) admin: LookupdAdmin,
    /// The topic after which [`Lookup::next_registrations`] continues.
    seen: Mutex<String>,
    /// What was wrong with it at the last check.
    problem: Mutex<Option<String>>,
}

impl Lookup {
    pub(super) fn new(id: String) -> Self {
        Self { admin: LookupdAdmin::new(&id), id, seen: Mutex::default(), problem: Mutex::default() }
    }

    /// Checks its health without end.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            self.health().await;
            sleep(EVERY).await;
        }
    }

    /// Returns its health, asked now.
    pub(super) async fn health(&self) -> NodeHealth {
        let problem = self.admin.ping().await.err().map(|error| in_words(&error));
        let before = std::mem::replace(
            &mut *self.problem.lock().unwrap_or_else(PoisonError::into_inner),
            problem.clone(),
        );
        match (&before, &problem) {
            (None, Some(error)) => tracing::warn!(
                nsqlookupd = self.id,
                error,
                "nsqlookupd doesn't answer: terminations stay pending until it does; nothing else waits for it"
            ),
            (Some(_), None) => tracing::info!(nsqlookupd = self.id, "nsqlookupd is up"),
            _ => {}
        }
        NodeHealth { node: self.id.clone(), role: "nsqlookupd", problem }
    }

    /// Returns its health at the last check.
    pub(super) fn last_health(&self) -> NodeHealth {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        NodeHealth { node: self.id.clone(), role: "nsqlookupd", problem }
    }

    /// Returns the queues of the next topics that it knows, by name. It lists channels topic by topic only, and it may
    /// know thousands; so a call reads a few.
    pub(super) async fn next_registrations(&self) -> Result<Vec<(ChatId, DeviceId)>, AdminError> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (found, next) = self.registrations_after(&seen, REGISTRATIONS).await?;
        // After the end it starts again.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = next.unwrap_or_default();
        Ok(found)
    }

    /// Returns the queues of at most this many topics after `topic`, and the last topic, if more may follow.
    pub(super) async fn registrations_after(
        &self,
        seen: &str,
        most: usize,
    ) -> Result<(Vec<(ChatId, DeviceId)>, Option<String>), AdminError> {
        let mut topics = self.admin.topics().await?;
        topics.sort_unstable();
        let chats = topics.iter().filter_map(|topic| Some((topic, names::chat_of(topic)?)));
        let next: Vec<_> = chats.filter(|(topic, _)| topic.as_str() > seen).take(most).collect();
        let last = next.last().filter(|_| next.len() == most).map(|(topic, _)| (*topic).clone());
        let asked: Vec<_> =
            next.into_iter().map(|(topic, chat)| self.registrations_of(topic, chat)).collect();
        let found: Vec<_> = stream::iter(asked).buffer_unordered(PARALLEL).try_collect().await?;
        Ok((found.into_iter().flatten().collect(), last))
    }

    async fn registrations_of(
        &self,
        topic: &str,
        chat: ChatId,
    ) -> Result<Vec<(ChatId, DeviceId)>, AdminError> {
        let channels = self.admin.channels(topic).await?;
        Ok(channels.iter().filter_map(|channel| Some((chat, names::device_of(channel)?))).collect())
    }

    /// Deletes the marks of a claim that are older than this clock.
    pub(super) async fn forget_marks(&self, claim: &str, clock: u64) -> Result<(), AdminError> {
        for mark in self.admin.channels(claim).await? {
            if names::marked(&mark).is_some_and(|other| other < clock) {
                self.admin.delete_channel(claim, &mark).await?;
            }
        }
        Ok(())
    }
}
