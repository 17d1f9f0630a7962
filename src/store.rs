//! The store holds truth and order: chat heads and logs, cursors, read offsets, membership, devices, leases,
//! terminations.
//!
//! # Contract
//!
//! Two variants implement it: [`redis::RedisStore`] for a deployment, [`embedded::EmbeddedStore`] for one process
//! without external services. `store/contract` in the tests runs the same stories against both.
//!
//! - **Atomic.** Each method is one step: others see all of its changes or none, unless its doc names several steps. In
//!   Redis a step is one script on one hash slot. All keys of a chat share a slot, and all keys of a user share a slot.
//! - **Durable.** After a changing method returns `Ok`, a crash of this process doesn't lose the change (nor does a
//!   crash of Redis, with `appendfsync always`). The embedded store lives as long as its process.
//! - **Idempotent.** A caller may repeat every change with the same arguments; the repetition changes nothing more.
//! - **Late.** A change may be executed, even a second time, up to 30 s after its caller gave up and others continued.
//!   A late change undoes none of their changes. So each change names its target: a session, a token, a membership's
//!   version, an epoch.
//! - **Fenced.** Each write of a session carries its session number. The store refuses the write once a newer session
//!   or a termination owns the device.
//! - **Errors.** [`StoreError::Unavailable`]: certainly nothing happened. [`StoreError::Unknown`]: the change may have
//!   happened (a time-out); repeat it, because every change is idempotent. No method waits longer than its time-out (2
//!   s by default).
//! - **Events are hints.** A [`StoreEvent`] asks its receiver to read again. Events may be lost, duplicated or late,
//!   and carry no truth. [`StoreEvent::Resubscribed`] follows every gap in the received events.

mod bounds;
pub mod embedded;
mod events;
mod outbox;
pub mod redis;
mod types;

pub use bounds::UNBORN;
pub use outbox::*;
pub use types::*;

use crate::simulation::store::FaultyStore;

/// The store, in one of two variants.
#[derive(Debug, Clone)]
pub enum Store {
    /// A Redis server.
    Redis(redis::RedisStore),
    /// The memory of this process.
    Embedded(embedded::EmbeddedStore),
    /// The embedded store behind a faulty link: in simulations only.
    Faulty(FaultyStore),
}

// Forwards a call to the variant: `now` when the result is available at once, `each` when the call waits.
macro_rules! now {
    ($self:ident.$method:ident($($arg:expr),*)) => {
        match $self {
            Store::Redis(store) => store.$method($($arg),*),
            Store::Embedded(store) => store.$method($($arg),*),
            Store::Faulty(store) => $crate::simulation::faulty_store!(now store.$method($($arg),*)),
        }
    };
}

macro_rules! each {
    ($self:ident.$method:ident($($arg:ident),*)) => {
        match $self {
            Store::Redis(store) => store.$method($($arg),*).await,
            Store::Embedded(store) => store.$method($($arg),*).await,
            Store::Faulty(store) => $crate::simulation::faulty_store!(each store.$method($($arg),*)),
        }
    };
}

// These modules stand behind the macro because they use it.
mod chats;
mod console;
mod devices;
mod edges;
mod leases;
mod links;
mod messages;
mod names;
mod pages;
mod people;
mod positions;
mod pubsub;
mod quota;
mod sessions;
mod sweeps;
mod terminations;

pub use console::*;
pub use edges::*;
pub use links::*;
pub use pages::*;
pub use people::*;
pub use quota::*;
pub use sweeps::*;
