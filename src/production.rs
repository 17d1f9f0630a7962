//! Replaces `simulation` in a server: no clock but the machine's, no task that freezes, no port that fails on purpose.
//! Everything here is compiled away.

/// A call of a faulty broker: there is none.
macro_rules! faulty_broker {
    ($broker:ident.$method:ident($($arg:expr),*)$($wait:tt)*) => {
        match *$broker {}
    };
}

pub(crate) use faulty_broker;

/// A call of a faulty store: there is none.
macro_rules! faulty_store {
    ($kind:ident $store:ident.$method:ident($($arg:expr),*)) => {
        match *$store {}
    };
}

pub(crate) use faulty_store;

/// Lets every task run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gate;

impl Gate {
    /// Returns the task.
    pub fn through<F>(self, task: F) -> F {
        task
    }
}

pub(crate) mod broker {
    /// No broker.
    #[derive(Debug, Clone, Copy)]
    pub enum FaultyBroker {}

    /// No receipt.
    #[derive(Debug)]
    pub enum Receipt {}

    impl Receipt {
        pub(crate) fn finish(self) {
            match self {}
        }
    }

    /// No subscription.
    #[derive(Debug)]
    pub enum Subscription {}

    impl Subscription {
        #[allow(clippy::unused_async, reason = "as the other adapters' is")]
        pub(crate) async fn close(self) {
            match self {}
        }
    }
}

pub(crate) mod store {
    /// No store.
    #[derive(Debug, Clone, Copy)]
    pub enum FaultyStore {}

    /// Nothing is remembered of what a log dropped.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct LetGo;

    impl LetGo {
        pub(crate) fn insert(self, _seq: u64) {}
    }
}

/// What a queue of the embedded broker stores to be restarted like nsqd's: nothing.
pub(crate) mod queue {
    /// Nothing is remembered.
    #[derive(Debug, Default)]
    pub struct Past;

    impl Past {
        pub(crate) fn pushed(&mut self, _body: &bytes::Bytes) {}

        pub(crate) fn finished(&mut self, _delivery: u64, _body: bytes::Bytes) {}
    }
}

pub(crate) mod seed {
    //! Nothing sets the clocks or the random numbers.

    use tokio::time::Instant;

    pub(crate) const fn draw() -> Option<[u8; 16]> {
        None
    }

    pub(crate) const fn now() -> Option<u64> {
        None
    }

    pub(crate) const fn store_millis() -> Option<u64> {
        None
    }

    pub(crate) const fn store_ahead() -> Option<i64> {
        None
    }

    pub(crate) const fn store_instant() -> Option<Instant> {
        None
    }
}
