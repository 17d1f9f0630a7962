//! Messages between edges about one user, over the store's pub/sub. At most once: everything is found by other means too (leases,
//! deadlines, reads), only later; except a kick, and the requests and answers of sub and main: their sender learns whether it was
//! published.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Core, watches::Watch};
use crate::{
    domain::{
        Millis,
        device::DeviceKind,
        id::{ChatId, DeviceId, UserId},
    },
    hub::{Command, HistoryAnswer, HistoryAsk, InvitationNews, LinkRequest},
    protocol::{ChatEvent, CloseCode, DeviceEvent},
    store::{Result, StoreError},
};

/// One signal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Signal {
    /// Sessions of the device with a lower number are over (4409).
    Replaced(DeviceId, u64),
    /// The device is being terminated (4403).
    Ended(DeviceId),
    /// An admin closes all sockets of the user (4410).
    Kicked,
    /// An event of a device, for the user's other devices.
    Device(DeviceEvent, DeviceId, Millis),
    /// The user is a member of this chat now.
    Joined(ChatId),
    /// The user is no member any more.
    Left(ChatId),
    /// Another member joined or left.
    Member(ChatEvent, ChatId, UserId),
    /// A sub asks the main.
    HistoryAsk(HistoryAsk),
    /// The main answers.
    HistoryAnswer(HistoryAnswer),
    /// To the main: a page that names this user asks to be linked.
    LinkRequest(LinkRequest),
    /// An invitation of the user is pending, or over.
    Invitation(InvitationNews),
    /// The user and this other one must not see each other's presence.
    Apart(UserId),
}

/// Publishes to every edge where the user is connected, what is also found in a slower way: so a failure is only logged.
pub async fn publish(core: &Core, user: &UserId, signal: &Signal) {
    if let Err(error) = send(core, user, signal).await {
        tracing::warn!(%user, %error, "signal not sent: the sweep covers it");
    }
}

/// The same for a signal without another way.
///
/// # Errors
/// When the store fails: then it may have reached nobody.
pub async fn send(core: &Core, user: &UserId, signal: &Signal) -> Result<()> {
    let payload = serde_json::to_vec(signal).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let payload = Bytes::from(payload);
    match signal {
        // Watchers of the user get a hint, and read for themselves.
        Signal::Device(..) => core.store.announce(user, payload).await,
        _ => core.store.signal(user, payload).await,
    }
}

/// Delivers a signal to the sessions here that it concerns.
pub fn deliver(core: &Core, user: &UserId, payload: &[u8]) {
    let signal: Signal = match serde_json::from_slice(payload) {
        Ok(signal) => signal,
        // Another version of the server may have more signals.
        Err(error) => return tracing::warn!(%user, %error, "unreadable signal ignored"),
    };
    let sessions = core.hub.sessions_of(user);
    if sessions.is_empty() {
        return core.watching.watches.idle([Watch::User(user.clone())]);
    }
    let others = |device: DeviceId| sessions.iter().filter(move |session| session.device != device);
    let one = |device: DeviceId| sessions.iter().filter(move |session| session.device == device);
    match signal {
        Signal::Replaced(device, session) => {
            one(device)
                .filter(|s| s.session < session)
                .for_each(|s| s.mailbox.close_signal.close(CloseCode::Replaced));
        }
        Signal::Ended(device) => {
            one(device).for_each(|s| s.mailbox.close_signal.close(CloseCode::Terminated))
        }
        Signal::Kicked => sessions.iter().for_each(|s| s.mailbox.close_signal.close(CloseCode::Kicked)),
        Signal::Device(event, device, at) => {
            others(device).for_each(|s| s.mailbox.notify(Command::Device(event, device, at)))
        }
        // They may overtake each other, so each session checks for itself.
        Signal::Joined(chat) | Signal::Left(chat) => {
            sessions.iter().for_each(|s| s.mailbox.notify(Command::Membership(vec![chat])));
        }
        Signal::Member(event, chat, who) => {
            sessions.iter().for_each(|s| s.mailbox.notify(Command::Member(event, chat, who.clone())));
        }
        Signal::HistoryAsk(ask) => {
            let ask = std::sync::Arc::new(ask);
            one(ask.to).for_each(|s| s.mailbox.notify(Command::HistoryAsk(ask.clone())));
        }
        Signal::LinkRequest(request) => {
            let request = std::sync::Arc::new(request);
            let mains = sessions.iter().filter(|session| session.kind == DeviceKind::Main);
            mains.for_each(|s| s.mailbox.notify(Command::LinkRequest(request.clone())));
        }
        Signal::Invitation(news) => {
            let news = std::sync::Arc::new(news);
            sessions.iter().for_each(|s| s.mailbox.notify(Command::Invitation(news.clone())));
        }
        Signal::Apart(other) => {
            sessions.iter().for_each(|s| s.mailbox.notify(Command::Apart(other.clone())));
        }
        Signal::HistoryAnswer(answer) => {
            let answer = std::sync::Arc::new(answer);
            one(answer.to).for_each(|s| s.mailbox.notify(Command::HistoryAnswer(answer.clone())));
        }
    }
}
