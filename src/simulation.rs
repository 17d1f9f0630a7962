//! Faults by seed: what `tests/simulation` puts between an edge and the embedded store and broker.
//!
//! - A [`Gate`] holds all tasks of one edge: frozen tasks aren't polled (SIGSTOP), killed ones are dropped at their await
//!   (SIGKILL).
//! - [`Faults`] decide about each call of an edge to its store or broker. At these points alone the progress of an edge is
//!   visible outside, so "killed before or after the n-th call" covers "killed at any await".
//!
//! A simulation runs in one thread with a paused clock, so that a seed repeats it exactly.

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
