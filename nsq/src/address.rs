//! Where nsqd's TCP port is.

use std::fmt;

use tokio::sync::watch;

/// nsqd's TCP address, `host:port`: known from the start, or told later, and again whenever it moves. Each attempt to
/// connect uses the newest; while there is none, attempts fail (subscriptions wait a little first).
#[derive(Debug, Clone)]
pub enum Address {
    /// Known, and stays.
    Fixed(String),
    /// Told by whoever holds the other end.
    Told(watch::Receiver<Option<String>>),
}

impl Address {
    /// The newest, if any.
    pub(crate) fn now(&self) -> Option<String> {
        match self {
            Self::Fixed(addr) => Some(addr.clone()),
            Self::Told(told) => told.borrow().clone(),
        }
    }

    /// Waits until there is one. `None`: nobody is left who could tell.
    pub(crate) async fn told(&self) -> Option<String> {
        match self {
            Self::Fixed(addr) => Some(addr.clone()),
            Self::Told(told) => told.clone().wait_for(Option::is_some).await.ok()?.clone(),
        }
    }
}

impl From<&str> for Address {
    fn from(addr: &str) -> Self {
        Self::Fixed(addr.to_owned())
    }
}

impl From<&String> for Address {
    fn from(addr: &String) -> Self {
        Self::Fixed(addr.clone())
    }
}

impl From<String> for Address {
    fn from(addr: String) -> Self {
        Self::Fixed(addr)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.now().as_deref().unwrap_or("an address not known yet"))
    }
}
