//! The embedded store behind a faulty link, for simulations.

use tokio::{sync::mpsc, time::Duration};

use crate::{
    domain::Seq,
    simulation::{Faults, Late, Outcome, Port},
    store::{Result, StoreError, StoreEvent, embedded::EmbeddedStore},
};

pub(crate) mod late;

/// One edge's handle to a store that all edges of a simulation share.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    pub(crate) inner: EmbeddedStore,
    faults: Faults,
}

impl FaultyStore {
    /// Returns a faulty store. `inner` must be this edge's own handle (see [`EmbeddedStore::another`]).
    #[must_use]
    pub fn new(inner: EmbeddedStore, faults: Faults) -> Self {
        Self { inner, faults }
    }

    pub(crate) async fn call<T>(&self, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.faults.call(Port::Store, name, work).await {
            Ok(done) => done,
            Err(Outcome::Unknown) => Err(StoreError::Unknown("simulated".to_owned())),
            Err(_) => Err(StoreError::Unavailable("simulated".to_owned())),
        }
    }

    /// Returns when the store executes this call after its caller has given up, if it does.
    pub(crate) fn late(&self, name: &str) -> Option<Late> {
        // An edge receives its events on one connection, on which nothing is overtaken.
        let hears = name.starts_with("watch_") || name.starts_with("unwatch_");
        if hears { None } else { self.faults.late(Port::Store, name) }
    }

    /// Makes a call whose caller gives up before it is done; `work` is called once for each execution.
    pub(crate) async fn call_late<T, F>(
        &self,
        name: &str,
        late: Late,
        work: impl FnMut() -> F + Send + 'static,
    ) -> Result<T>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.faults.call_late(name, late, work).await;
        Err(StoreError::Unknown("simulated".to_owned()))
    }

    /// See [`crate::store::Store::lives`].
    #[must_use]
    pub fn lives(&self, edge: &str, incarnation: &str) -> bool {
        self.inner.lives(edge, incarnation)
    }

    /// See [`crate::store::Store::take_events`]. The events pass through the fault profile.
    #[must_use]
    pub fn take_events(&self) -> Option<mpsc::Receiver<StoreEvent>> {
        let mut events = self.inner.take_events()?;
        let (sender, receiver) = mpsc::channel(4096);
        let (gate, shared) = (self.faults.gate.clone(), self.faults.shared.clone());
        tokio::spawn(self.faults.gate.through(async move {
            let late = |event: StoreEvent, after: Duration| {
                let sender = sender.clone();
                tokio::spawn(gate.through(async move {
                    tokio::time::sleep(after).await;
                    let _ = sender.try_send(event);
                }));
            };
            while let Some(event) = events.recv().await {
                let profile = shared.profile();
                if shared.per_mille(profile.lose_events) {
                    shared.record("events lost", 1);
                    if profile.notice_losses {
                        late(StoreEvent::Resubscribed, Duration::from_millis(shared.below(1000)));
                    }
                    continue;
                }
                let after = || Duration::from_millis(shared.below(profile.late_events + 1));
                if shared.per_mille(profile.double_events) {
                    shared.record("events doubled", 1);
                    late(event.clone(), after());
                }
                late(event, after());
            }
        }));
        Some(receiver)
    }
}

/// The sequence numbers of messages that a chat's log dropped before the broker had them.
pub type LetGo = std::collections::BTreeSet<Seq>;
