//! The life of a subscription: attach, serve, wait, and repeat. Serving is in `attached`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::attached::{Attached, End};
use super::{Event, Reattach, SubscribeOptions};
use crate::backoff::Backoff;
use crate::connection::{Connection, ConnectionError};
use crate::frame::valid_name;
use crate::identify::{Identified, Wishes};
use crate::subscription::Delivery;

/// The first wait after a loss, and the longest between attempts: an nsqd that is back is found within seconds.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// A connection that lasted this long was stable: the next loss is a new failure, not the same one continued.
const GOOD_FOR: Duration = Duration::from_secs(5);

/// Why there was nothing to serve.
enum NoAttach {
    Gone,
    Failed(String),
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From the pool, if that has one.
    Pool,
    /// Opened for this attempt.
    New,
}

/// A connection to subscribe on.
struct Ready {
    connection: Connection,
    identified: Identified,
    source: Source,
}

impl From<ConnectionError> for NoAttach {
    fn from(error: ConnectionError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) struct Task<T, E> {
    pub(super) options: SubscribeOptions,
    pub(super) tag: T,
    pub(super) events: mpsc::Sender<E>,
    /// What the owner hasn't taken yet. While attached it is bounded by RDY and `buffer_bytes`, otherwise it is one
    /// event.
    pub(super) outbox: VecDeque<Event>,
}

impl<T: Copy + Send + 'static, E: From<(T, Event)> + Send + 'static> Task<T, E> {
    pub(super) fn new(options: SubscribeOptions, tag: T, events: mpsc::Sender<E>) -> Self {
        Self { options, tag, events, outbox: VecDeque::new() }
    }

    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let names = [&self.options.topic, &self.options.channel];
        let invalid = names.into_iter().find(|name| !valid_name(name)).cloned();
        if let Some(name) = invalid {
            let error = format!("{name:?} isn't an NSQ name: use 1 to 64 of .a-zA-Z0-9_- and no others");
            self.outbox.push_back(Event::Detached { error, retry_in: Duration::MAX });
            return self.end(&mut stop).await;
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let (mut first, mut source) = (true, Source::Pool);
        loop {
            // Boxed: while attached, which is nearly always, the memory of the handshake is freed.
            let attempt = Box::pin(Self::attach(self.options.clone(), first, source));
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                () = deliver(&self.events, self.tag, &mut self.outbox) => return,
                _ = &mut stop => return,
            };
            first = false;
            let error = match attempt {
                Ok(Ready { connection, identified, source: from }) => {
                    let began = Instant::now();
                    source = Source::Pool;
                    match Attached::new(&mut self, connection, &identified).serve(&mut stop).await {
                        End::Stopped => return,
                        // It died while it waited, which says nothing of a new one.
                        End::Refused(error) if from == Source::Pool => {
                            tracing::debug!(topic = self.options.topic, %error, "a spare connection was dead");
                            source = Source::New;
                            continue;
                        }
                        End::Lost(error) | End::Refused(error) => {
                            if began.elapsed() > GOOD_FOR {
                                backoff.reset();
                            }
                            error.to_string()
                        }
                    }
                }
                Err(NoAttach::Failed(error)) => error,
                Err(NoAttach::Gone) => return self.end(&mut stop).await,
            };
            let retry_in = backoff.next();
            tracing::debug!(topic = self.options.topic, channel = self.options.channel, %error, ?retry_in, "detached");
            // Messages not taken yet come again; this Detached includes all that an older one reports.
            self.outbox = VecDeque::from([Event::Detached { error, retry_in }]);
            tokio::select! {
                () = tokio::time::sleep(retry_in) => {}
                () = deliver(&self.events, self.tag, &mut self.outbox) => return,
                _ = &mut stop => return,
            }
        }
    }

    /// Sends the owner the rest and the end of the subscription. Waits for room until the owner stops the subscription.
    async fn end(self, stop: &mut oneshot::Receiver<()>) {
        let Self { tag, events, mut outbox, .. } = self;
        outbox.push_back(Event::ChannelGone);
        let told = async move {
            while let Some(event) = outbox.pop_front() {
                if events.send((tag, event).into()).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = told => {}
            _ = stop => {}
        }
    }

    async fn attach(options: SubscribeOptions, first: bool, source: Source) -> Result<Ready, NoAttach> {
        let wishes =
            Wishes { msg_timeout: options.msg_timeout, unbuffered: options.delivery == Delivery::Unbuffered };
        let ask = match options.reattach {
            Reattach::Always => false,
            Reattach::IfChannelExists => !first,
            Reattach::ExistingOnly => true,
        };
        if ask && options.nsqd.is_none() {
            tracing::warn!(options.topic, options.channel, "can't ask for the channel: set nsqd");
            return Err(NoAttach::Gone);
        }
        // Held until the attempt is over: after a restart of nsqd thousands of subscriptions begin at once. The owner's turn
        // comes first, so that an owner of many has no more than its part of the pool's line.
        let _own = match &options.turns {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let _turn = match &options.pool {
            Some(pool) => pool.turn().await,
            None => None,
        };
        let spare = options.pool.as_ref().filter(|_| source == Source::Pool);
        let (connection, identified, source) = match spare.and_then(|pool| pool.take(wishes)) {
            Some((connection, identified)) => (connection, identified, Source::Pool),
            None => {
                // An address that is set meanwhile is used at once; the deadline lets the owner learn why nothing happens.
                let addr =
                    tokio::time::timeout(options.connect.connect_timeout, options.tcp_addr.told()).await;
                let addr = addr.ok().flatten().ok_or(ConnectionError::NoAddress)?;
                let (connection, identified) = Connection::open(&addr, &options.connect, wishes).await?;
                (connection, identified, Source::New)
            }
        };
        // As late as possible: a channel that is deleted after this question returns with the SUB.
        if let (true, Some(nsqd)) = (ask, &options.nsqd) {
            match nsqd.has_channel(&options.topic, &options.channel).await {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(pool) = spare {
                        pool.give_back(connection, identified);
                    }
                    return Err(NoAttach::Gone);
                }
                Err(error) => return Err(NoAttach::Failed(error.to_string())),
            }
        }
        Ok(Ready { connection, identified, source })
    }
}

/// Hands events over as the owner takes them. Ends only when the owner has dropped the receiver.
async fn deliver<T: Copy, E: From<(T, Event)>>(
    events: &mpsc::Sender<E>,
    tag: T,
    outbox: &mut VecDeque<Event>,
) {
    loop {
        if outbox.is_empty() {
            return events.closed().await;
        }
        let Ok(permit) = events.reserve().await else { return };
        if let Some(event) = outbox.pop_front() {
            permit.send((tag, event).into());
        }
    }
}
