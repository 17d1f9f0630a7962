//! The arguments of a call that is executed after its caller has gone: kept, and lent to each execution.

use std::{borrow::Borrow, time::Duration};

use bytes::Bytes;

use crate::{
    domain::id::{ChatId, DeviceId, LinkId, TerminationId},
    domain::link::LinkCode,
    store::{JoinBy, SubscribeFrom},
};

/// An argument that can be kept.
pub(crate) trait Keep {
    /// The kept form.
    type Kept: Lend + Clone + Send + 'static;

    /// Returns the kept form.
    fn keep(&self) -> Self::Kept;
}

/// The kept form of an argument.
pub(crate) trait Lend {
    /// The argument.
    type Lent<'a>
    where
        Self: 'a;

    /// Returns the argument as it was.
    fn lend(&self) -> Self::Lent<'_>;
}

/// The kept form of an argument by reference.
pub(crate) struct ByRef<T: ToOwned + ?Sized>(T::Owned);

impl<T: ToOwned + ?Sized> Clone for ByRef<T>
where
    T::Owned: Clone,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: ToOwned + ?Sized + 'static> Keep for &T
where
    T::Owned: Clone + Send + 'static,
{
    type Kept = ByRef<T>;

    fn keep(&self) -> ByRef<T> {
        ByRef((*self).to_owned())
    }
}

impl<T: ToOwned + ?Sized + 'static> Lend for ByRef<T> {
    type Lent<'a> = &'a T;

    fn lend(&self) -> &T {
        self.0.borrow()
    }
}

/// The kept form of an optional argument by reference.
#[derive(Clone)]
pub(crate) struct Perhaps<T>(Option<T>);

impl<T: Clone + Send + 'static> Keep for Option<&T> {
    type Kept = Perhaps<T>;

    fn keep(&self) -> Perhaps<T> {
        Perhaps(self.cloned())
    }
}

impl<T: 'static> Lend for Perhaps<T> {
    type Lent<'a> = Option<&'a T>;

    fn lend(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

/// The kept form of an argument by value.
#[derive(Clone)]
pub(crate) struct ByValue<T>(T);

macro_rules! by_value {
    ($($kind:ty),* $(,)?) => {
        $(
            impl Keep for $kind {
                type Kept = ByValue<$kind>;

                fn keep(&self) -> ByValue<$kind> {
                    ByValue(self.clone())
                }
            }

            impl Lend for ByValue<$kind> {
                type Lent<'a> = $kind;

                fn lend(&self) -> $kind {
                    self.0.clone()
                }
            }
        )*
    };
}

by_value!(
    bool,
    u32,
    u64,
    usize,
    Duration,
    Bytes,
    ChatId,
    DeviceId,
    LinkId,
    LinkCode,
    TerminationId,
    JoinBy,
    SubscribeFrom,
    crate::store::Departure,
    crate::store::InvitationLimits,
    crate::store::LinkOutcome,
    crate::store::Read,
    Option<u64>,
    Option<DeviceId>,
    Option<crate::store::AuditId>,
    crate::store::AuditKind,
    crate::store::AuditKeep,
);
