//! How a session begins: the device, the lists, `welcome`, the subscriptions.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{Connection, EVENTS, MAILBOX, Session, ending::refuse};
use crate::{
    broker::{Notice, Sink},
    domain::device::Lease,
    hub::{Inbox, Mailbox, SessionHandle},
    protocol::{self, CloseCode, DeviceEvent, LimitsInfo, ServerFrame, Welcome},
    spans,
    store::StoreError,
    sync::{Core, connect},
    tokens::DeviceClaims,
};

/// Pause between two attempts to confirm a session.
const CONFIRM_AGAIN: Duration = Duration::from_millis(200);

/// A session that is open and not served yet.
#[derive(Debug)]
pub struct Open {
    session: Box<Session>,
    inbox: Inbox,
    events: mpsc::Receiver<Box<Notice>>,
}

impl Open {
    /// Serves it to its end. This future is the cost of an idle device, so opening is a future of its own, and ending is
    /// boxed.
    pub async fn serve(self) {
        let Self { mut session, mut inbox, mut events } = self;
        let end = session.run(&mut inbox, &mut events).await;
        Box::pin(session.end(end)).await;
    }
}

/// Attempts to take a device from a connection that was opened at the same moment.
const ROUNDS: usize = 6;
/// The longest pause between two of them.
const PAUSE: Duration = Duration::from_millis(50);

/// Acquires the device and begins its session. None: it was refused, or the client has hung up meanwhile, and the
/// socket is closed.
pub async fn open(core: Arc<Core>, mut connection: Connection, claims: DeviceClaims) -> Option<Open> {
    let mut begun = None;
    for _ in 0..ROUNDS {
        // A closed connection must not take the device from a live one.
        if connection.is_over().await {
            connection.goodbye().await;
            return None;
        }
        let opened = match connect::open(&core, &claims, &mut begun).await {
            Ok(opened) => opened,
            Err(refusal) => {
                refuse(&core, connection, refusal).await;
                return None;
            }
        };
        let connect::Opening { device, session, previous, lease } = opened;
        let (mailbox, inbox) = Mailbox::new(MAILBOX);
        let handle = SessionHandle {
            user: device.user.clone(),
            device: device.id,
            kind: device.kind,
            session,
            mailbox,
            lease,
        };
        match attach(&core, &mut connection, &handle, previous).await {
            Ok(start) => {
                spans::session_is_open(handle.session);
                let (sink, events) = mpsc::channel(EVENTS);
                let mut session = Box::new(Session::new(core, handle, connection, &device, Sink::new(sink)));
                session.begin(start).await;
                return Some(Open { session, inbox, events });
            }
            Err(None) => {
                // Another connection of the device was opened in between, perhaps by a client that has gone.
                connect::close(&core, &handle).await;
                tokio::time::sleep(PAUSE.mul_f64(crate::rng::fraction())).await;
            }
            Err(Some(code)) => {
                refuse(&core, connection, code.into()).await;
                connect::close(&core, &handle).await;
                return None;
            }
        }
    }
    refuse(&core, connection, CloseCode::BackendUnavailable.into()).await;
    None
}

/// `Err(None)`: another session has the device by now, or the client has gone.
async fn attach(
    core: &Core,
    connection: &mut Connection,
    handle: &SessionHandle,
    previous: Option<Lease>,
) -> Result<connect::Start, Option<CloseCode>> {
    let start = connect::attach(core, handle).await.map_err(|error| {
        tracing::warn!(device = %handle.device, %error, "attaching a device failed");
        Some(CloseCode::BackendUnavailable)
    })?;
    if connection.is_over().await {
        return Err(None);
    }
    loop {
        match connect::take_over(core, handle, previous.as_ref()).await {
            Ok(true) => return Ok(start),
            Ok(false) => {
                return Err(handle.mailbox.close_signal.code().filter(|code| *code != CloseCode::Replaced));
            }
            // The call may still be executed, and then the older connection closes 4409 for this one: so this one continues while its
            // lease lasts.
            Err(error) if !matches!(error, StoreError::Corrupt(_)) && !handle.lease.expired() => {
                tracing::debug!(device = %handle.device, %error, "a session isn't confirmed yet");
                tokio::time::sleep(CONFIRM_AGAIN).await;
            }
            Err(error) => {
                tracing::warn!(device = %handle.device, %error, "confirming a session failed");
                return Err(Some(CloseCode::BackendUnavailable));
            }
        }
    }
}

impl Session {
    /// Sends `welcome`, then subscribes.
    async fn begin(&mut self, start: connect::Start) {
        let limits = &self.core.limits;
        let welcome = Welcome {
            protocol: protocol::VERSION,
            user: self.handle.user.clone(),
            device: self.handle.device,
            kind: self.handle.kind,
            session: self.handle.session,
            edge: self.core.edge.name.clone(),
            heartbeat_s: self.core.timing.heartbeat.as_secs_f64(),
            limits: LimitsInfo {
                content_bytes: limits.content_bytes,
                frame_bytes: limits.frame_bytes,
                history_frame_bytes: limits.history_frame_bytes,
                history_page: limits.history_page_messages,
                unacked: limits.unacked_window,
                ack_timeout_s: self.core.timing.ack_timeout.as_secs(),
            },
            main: start.main,
            chats: start.chats.iter().map(|(attached, read)| connect::entry(attached, *read)).collect(),
        };
        self.connection.send(ServerFrame::Welcome(Box::new(welcome)).text().into());
        let followed: Vec<_> = start
            .chats
            .iter()
            .map(|(attached, read)| (attached.chat.id, self.add_chat(attached, *read), *read))
            .collect();
        self.requests.limiter.opened(followed.len());
        self.follow(followed, start.readings);
        let SessionHandle { user, device, session, .. } = &self.handle;
        tracing::debug!(%user, %device, session, chats = self.chats.len(), "a device is connected");
        // Published only now: a device shown online is attached.
        connect::publish_event(&self.core, &self.handle.user, self.handle.device, DeviceEvent::Online).await;
    }
}
