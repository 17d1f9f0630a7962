//! How a session ends, and which close code its client gets.

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as Code;

use super::{
    Connection, Session,
    placement::{Consumer, Former},
};
use crate::{
    broker::Subscription,
    hub::SessionHandle,
    metrics::PROTOCOL_ERROR,
    protocol::CloseCode,
    sync::{Core, connect, connect::Refusal},
};

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The server closes with a code of the contract.
    Close(CloseCode),
    /// The server closes because the main is offline.
    MainOffline(Option<u64>),
    /// The server closes with one of WebSocket's own codes.
    Protocol(Code),
    /// The client has disconnected.
    Gone,
}

impl End {
    /// For the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Close(code) => code.name(),
            Self::MainOffline(_) => CloseCode::MainOffline.name(),
            Self::Protocol(_) => PROTOCOL_ERROR,
            Self::Gone => "gone",
        }
    }
}

/// Closes the socket of a refused connection.
pub async fn refuse(core: &Core, connection: Connection, refusal: Refusal) {
    core.metrics.closes.with_label_values(&[refusal.code.name()]).inc();
    connection.close(refusal.code, &reason(refusal.code, refusal.last_seen)).await;
}

fn reason(code: CloseCode, last_seen: Option<u64>) -> String {
    if code == CloseCode::MainOffline {
        serde_json::json!({ "code": code.name(), "last_seen": last_seen }).to_string()
    } else {
        code.name().to_owned()
    }
}

impl Session {
    /// Releases everything in the order of a safe hand-over: consumers first, then the lease.
    pub(super) async fn end(self: Box<Self>, end: End) {
        let mut this = *self;
        connect::unfollow_all(&this.core, &this.handle);
        let closing = FuturesUnordered::new();
        for (_, mut state) in this.chats.drain() {
            let own = state.place.stage.take_consumer().map(Consumer::into_subscription);
            let former = state.place.former.drain(..).map(Former::into_subscription);
            let subscriptions: Vec<_> = own.into_iter().chain(former).collect();
            if !subscriptions.is_empty() {
                closing.push(async move {
                    join_all(subscriptions.into_iter().map(Subscription::close)).await;
                    // Receipts after their subscription, which has voided them.
                    drop(state);
                });
            }
        }
        let returned = closing.collect::<()>();
        let core = this.core.clone();
        let SessionHandle { user, device, session, .. } = &this.handle;
        tracing::debug!(%user, %device, session, code = end.name(), "a device's connection ends");
        let count = |name: &str| core.metrics.closes.with_label_values(&[name]).inc();
        let closed = async {
            match end {
                End::Close(code) => {
                    count(code.name());
                    this.connection.close(code, &reason(code, None)).await;
                }
                End::MainOffline(last_seen) => {
                    count(CloseCode::MainOffline.name());
                    this.connection
                        .close(CloseCode::MainOffline, &reason(CloseCode::MainOffline, last_seen))
                        .await;
                }
                End::Protocol(code) => {
                    count(PROTOCOL_ERROR);
                    this.connection.close_protocol(code).await;
                }
                // Closed last: after the close frame, the device isn't found online any more.
                End::Gone => return Some(this.connection),
            }
            None
        };
        let ((), gone) = tokio::join!(returned, closed);
        connect::close(&core, &this.handle).await;
        if let Some(connection) = gone {
            connection.goodbye().await;
        }
    }
}
