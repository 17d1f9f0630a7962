//! The address of nsqd's TCP port.

use std::fmt;

use tokio::sync::watch;

/// nsqd's TCP address, `host:port`: fixed, or set later and again whenever it changes. Each attempt to connect uses the
/// newest address; while there is none, attempts fail (subscriptions wait a little first).
#[derive(Debug, Clone)]
pub enum Address {
    /// A fixed address.
    Fixed(String),
    /// Set by the holder of the sending end.
    Told(watch::Receiver<Option<String>>),
}

impl Address {
    /// Returns the newest address, if any.
    pub(crate) fn now(&self) -> Option<String> {
        match self {
            Self::Fixed(addr) => Some(addr.clone()),
            Self::Told(told) => told.borrow().clone(),
        }
    }

    /// Waits until there is an address. Returns `None` if the setting end is closed.
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
