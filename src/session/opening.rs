//! How a session begins: the lease, the lists, `welcome`, the subscriptions.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Connection, EVENTS, MAILBOX, Session, ending::refuse};
use crate::{
    broker::Notice,
    hub::{Inbox, LeaseClock, Mailbox, SessionHandle},
    protocol::{self, CloseCode, DeviceEvent, LimitsInfo, ServerFrame, Welcome},
    sync::{Core, connect},
    tokens::DeviceClaims,
};

/// A session that is open and not served yet.
#[derive(Debug)]
pub struct Open {
    session: Box<Session>,
    inbox: Inbox,
    events: mpsc::Receiver<Box<Notice>>,
}

impl Open {
    /// Serves it to its end. This future is what an idle device costs, so what is done once, at either end, isn't part of
    /// it: opening is a future of its own, and ending is boxed.
    pub async fn serve(self) {
        let Self { mut session, mut inbox, mut events } = self;
        let end = session.turn(&mut inbox, &mut events).await;
        Box::pin(session.end(end)).await;
    }
}

/// Takes the device's lease and begins its session. None: it was refused, and the socket is closed.
pub async fn open(core: Arc<Core>, connection: Connection, claims: DeviceClaims) -> Option<Open> {
    let (device, session) = match connect::open(&core, &claims).await {
        Ok(opened) => opened,
        Err(refusal) => {
            refuse(&core, connection, refusal).await;
            return None;
        }
    };
    let (mailbox, inbox) = Mailbox::new(MAILBOX);
    let handle = SessionHandle {
        user: device.user.clone(),
        device: device.id,
        kind: device.kind,
        session,
        mailbox,
        lease: Arc::new(LeaseClock::new(core.timing.lease)),
    };
    let start = match connect::attach(&core, &handle).await {
        Ok(start) => start,
        Err(error) => {
            tracing::warn!(device = %handle.device, %error, "a device can't be attached");
            refuse(&core, connection, CloseCode::BackendUnavailable.into()).await;
            connect::close(&core, &handle).await;
            return None;
        }
    };
    let (sink, events) = mpsc::channel(EVENTS);
    let mut session = Box::new(Session::new(core, handle, connection, &device, sink));
    session.begin(start).await;
    Some(Open { session, inbox, events })
}

impl Session {
    /// `welcome`, then the subscriptions.
    async fn begin(&mut self, start: connect::Start) {
        let limits = &self.core.limits;
        let welcome = Welcome {
            protocol: protocol::VERSION,
            user: self.handle.user.clone(),
            device: self.handle.device,
            kind: self.handle.kind,
            session: self.handle.session,
            edge: self.core.edge.clone(),
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
        connect::follow(&self.core, &self.handle, followed, start.readings);
        let chats = start.chats.iter().map(|(attached, _)| attached.chat.id).collect();
        if let Err(error) = connect::hear(&self.core, chats).await {
            tracing::warn!(device = %self.handle.device, %error, "doorbells can't be heard yet; the sweep will do");
        }
        let SessionHandle { user, device, session, .. } = &self.handle;
        tracing::debug!(%user, %device, session, chats = self.chats.len(), "a device is connected");
        // Written only now: whoever sees this device online may count on its being attached.
        connect::told(&self.core, &self.handle.user, self.handle.device, DeviceEvent::Online).await;
    }
}
