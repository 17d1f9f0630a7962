//! A value that others wait for. (tokio's own `watch` wakes those who wait in an order that it draws from a counter of the
//! process, which no seed repeats.)

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Clone> Watched<T> {
    /// With a first value.
    pub fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    /// What it is.
    pub fn get(&self) -> T {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes it, and wakes those who wait, in the order in which they came.
    pub fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_waiters();
    }

    /// Waits until it is as wanted.
    pub async fn until(&self, wanted: impl Fn(&T) -> bool) -> T {
        loop {
            // Listen first, look second.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let value = self.get();
            if wanted(&value) {
                return value;
            }
            changed.await;
        }
    }
}
