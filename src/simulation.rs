//! Everything that can go wrong, by seed: what `tests/simulation` puts between an edge and the embedded store and broker.
//!
//! - A [`Gate`] holds all tasks of one edge: frozen they aren't polled (SIGSTOP), killed they are dropped where they
//!   stand (SIGKILL).
//! - [`Faults`] are asked at each call that an edge makes to its store or broker, which are all the points at which the
//!   world outside can notice how far the edge has come. So "killed before or after the n-th call" is "killed at any await".
//!
//! One simulation is one thread with a paused clock, so that a seed repeats it exactly.

pub mod broker;
mod faults;
mod gate;
pub mod queue;
pub mod seed;
pub mod store;
mod watched;

pub use faults::{FaultProfile, Faults, Late, Link, Manners, Outcome, Port, Shared};
pub use gate::{Gate, Through};
pub use watched::Watched;

/// A call of the faulty broker.
macro_rules! faulty_broker {
    ($broker:ident.$method:ident($($arg:expr),*)$($wait:tt)*) => {
        $broker.$method($($arg),*)$($wait)*
    };
}

pub(crate) use faulty_broker;

/// A call of the faulty store: at once (`now`), or one that may fail or be late (`each`).
macro_rules! faulty_store {
    (now $store:ident.$method:ident($($arg:expr),*)) => {
        $store.$method($($arg),*)
    };
    (each $store:ident.$method:ident($($arg:ident),*)) => {
        match $store.late(stringify!($method)) {
            None => $store.call(stringify!($method), $store.inner.$method($($arg),*)).await,
            Some(late) => {
                let inner = $store.inner.clone();
                $(let $arg = $crate::simulation::store::late::Keep::keep(&$arg);)*
                let again = move || {
                    let inner = inner.clone();
                    $(let $arg = $arg.clone();)*
                    async move { inner.$method($($crate::simulation::store::late::Lend::lend(&$arg)),*).await.map(drop) }
                };
                $store.call_late(stringify!($method), late, again).await
            }
        }
    };
}

pub(crate) use faulty_store;
