//! The arguments of a call that is done when its caller is gone: kept, and lent to each time that it is done.

use std::{borrow::Borrow, time::Duration};

use bytes::Bytes;

use crate::{
    domain::id::{ChatId, DeviceId, LinkId, TerminationId},
    domain::link::LinkCode,
    store::{JoinBy, OwedSince},
};

/// An argument that can be kept.
pub(in crate::store) trait Keep {
    /// What is kept of it.
    type Kept: Lend + Clone + Send + 'static;

    /// Keeps it.
    fn keep(&self) -> Self::Kept;
}

/// What is kept of an argument.
pub(in crate::store) trait Lend {
    /// The argument.
    type Lent<'a>
    where
        Self: 'a;

    /// As it was.
    fn lend(&self) -> Self::Lent<'_>;
}

/// Of an argument by reference.
pub(in crate::store) struct ByRef<T: ToOwned + ?Sized>(T::Owned);

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

/// Of an argument that may be left out, by reference.
#[derive(Clone)]
pub(in crate::store) struct Perhaps<T>(Option<T>);

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

/// Of an argument by value.
#[derive(Clone)]
pub(in crate::store) struct ByValue<T>(T);

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
    OwedSince,
    crate::store::Read,
    Option<u64>,
    Option<DeviceId>,
    Option<crate::store::AuditId>,
);
