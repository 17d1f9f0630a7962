//! How a client is made.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Client, Events, desk::Desk, task::Task};
use crate::{
    backoff::Backoff,
    session::Session,
    storage::{NoStorage, Storage},
    transport::{Connect, Credential, Dial},
};

/// Who acknowledges messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The client, when its storage has them; without a storage as soon as they came, which keeps them nowhere.
    Automatic,
    /// The application, by [`Client::ack`], when it has stored them. What isn't acknowledged for 45 s ends the
    /// connection, and at most 256 messages come without being acknowledged.
    Manual,
}

/// What happens when a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// The client connects again where the contract says so.
    Always,
    /// It stops.
    Never,
}

/// Builds a [`Client`]. A device with a [`Storage`] acknowledges by itself, one without leaves that to the application.
pub struct Builder<C = Dial, S = NoStorage> {
    connect: C,
    token: String,
    storage: Option<S>,
    session: Session,
    pub(super) settings: Settings,
}

pub(super) struct Settings {
    pub(super) acks: Acks,
    pub(super) reconnect: Reconnect,
    pub(super) backoff: Backoff,
    pub(super) jitter: Box<dyn FnMut() -> f64 + Send>,
}

impl Builder {
    /// Puts the token elsewhere in the upgrade.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.connect = self.connect.credential(credential);
        self
    }
}

impl<C: Connect> Builder<C> {
    /// Returns a builder for a device with this token, whose sockets `connect` opens.
    pub fn new(connect: C, token: &str) -> Self {
        let settings = Settings {
            acks: Acks::Manual,
            reconnect: Reconnect::Always,
            backoff: Backoff::default(),
            jitter: Box::new(rand::random::<f64>),
        };
        Self { connect, token: token.to_owned(), storage: None, session: Session::new(), settings }
    }
}

impl<C: Connect, S: Storage> Builder<C, S> {
    /// Stores messages there before they are acknowledged and told, and, as a main, answers subs from it.
    #[must_use]
    pub fn storage<T: Storage>(self, storage: T) -> Builder<C, T> {
        let Self { connect, token, session, settings, .. } = self;
        let settings = Settings { acks: Acks::Automatic, ..settings };
        Builder { connect, token, storage: Some(storage), session, settings }
    }

    /// Says who acknowledges.
    #[must_use]
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Says what happens when a connection is over.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// Waits so long between tries, instead of 1 s to 30 s.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.backoff = Backoff::new(first, longest);
        self
    }

    /// Takes the jitter of pauses from there: numbers from 0 to 1.
    #[must_use]
    pub fn jitter(mut self, jitter: impl FnMut() -> f64 + Send + 'static) -> Self {
        self.settings.jitter = Box::new(jitter);
        self
    }

    /// Goes on from a session that was prepared: with [`Session::resume`] where an earlier process was, with
    /// [`Session::ready`] as a sub that has its history.
    #[must_use]
    pub fn session(mut self, session: Session) -> Self {
        self.session = session;
        self
    }

    /// Starts the device: it connects now, and for as long as it may. Needs a Tokio runtime.
    pub fn start(self) -> (Client, Events) {
        let Self { connect, token, storage, session, settings } = self;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (outbox, events) = mpsc::channel(64);
        let task = Task::new(Desk::new(inbox, outbox), storage, session, settings);
        tokio::spawn(task.run(connect, token));
        (Client { commands }, Events(events))
    }
}

impl<C, S> std::fmt::Debug for Builder<C, S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // (A token is a secret.)
        let (acks, reconnect) = (self.settings.acks, self.settings.reconnect);
        formatter
            .debug_struct("Builder")
            .field("acks", &acks)
            .field("reconnect", &reconnect)
            .finish_non_exhaustive()
    }
}
