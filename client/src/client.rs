//! A device that stays connected: [`Client`] says things, [`Events`] tells what happens.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    close::Ended,
    event::{Event, Receipt},
    frame::{ChatEntry, ChatId, ClientFrame, Draft, HistoryRequest, MessageKey, Page, Presence, Problem},
    session::Unsent,
    transport::{ConnectError, Dial},
};

mod builder;
mod desk;
mod task;

pub use builder::{Acks, Builder, Reconnect};
use desk::{Command, Shutdown};

/// Why something that was asked for didn't happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// There is no connection now, or it was lost before the answer came.
    #[error("there is no connection")]
    Offline,
    /// The client has stopped, and doesn't connect again by itself.
    #[error("the client has stopped: {0}")]
    Stopped(Ended),
    /// The answer isn't what the contract says.
    #[error("an answer that can't be: {0}")]
    Protocol(String),
}

impl Error {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(problem) => problem.retry,
            Self::Offline => true,
            Self::Stopped(_) | Self::Protocol(_) => false,
        }
    }
}

/// What waits for an answer.
type Waiter<T> = oneshot::Sender<Result<T, Error>>;

/// A device, to those who want something of it. Clones are the same device.
///
/// It runs in a task of its own, until [`Client::close`] or until nobody has a `Client` or its [`Events`] any more.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
}

/// What happens to a device, in order. They must be taken: when 1,024 wait, the client reads nothing more.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// Returns the next event; none after [`Event::Stopped`].
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

impl futures_util::Stream for Events {
    type Item = Event;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Event>> {
        self.0.poll_recv(context)
    }
}

impl Client {
    /// Returns a builder for a device of the server at `url`, with its device token.
    ///
    /// # Errors
    /// When the address can't be used.
    pub fn builder(url: &str, token: &str) -> Result<Builder, ConnectError> {
        Ok(Builder::new(Dial::new(url)?, token))
    }

    /// Sends a message; the order of a chat's messages is that of the calls. Resolves when the server has made it
    /// durable, over as many connections as that takes. It is sent also if nobody waits for that.
    ///
    /// # Errors
    /// When the server refuses it for good, or the client stops.
    pub fn send(
        &self,
        chat: ChatId,
        draft: Draft,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
        self.send_as(Uuid::new_v4(), chat, draft)
    }

    /// The same under a key of the caller's own: one that an earlier process stored, and may have sent.
    ///
    /// # Errors
    /// See [`Client::send`]; `conflict` when the key was used for another message.
    pub fn send_as(
        &self,
        key: MessageKey,
        chat: ChatId,
        draft: Draft,
    ) -> impl Future<Output = Result<Receipt, Error>> + Send + use<> {
        self.ask(move |done| Command::Send { key, chat, draft: Box::new(draft), done })
    }

    /// Says that everything up to `seq` is stored on this device. Needed only with [`Acks::Manual`].
    ///
    /// # Errors
    /// When the client has stopped.
    pub fn ack(&self, chat: ChatId, seq: u64) -> Result<(), Error> {
        self.tell(Command::Ack { chat, seq })
    }

    /// The same, and resolves when that is durable.
    ///
    /// # Errors
    /// When it is refused, or there is no connection.
    pub async fn ack_durably(&self, chat: ChatId, seq: u64) -> Result<(), Error> {
        self.ack(chat, seq)?;
        self.ask(move |done| Command::AckDurably { chat, done }).await.map(drop)
    }

    /// Moves the user's read offset. Resolves with where it stands when the server has it, over as many connections as
    /// that takes.
    ///
    /// # Errors
    /// When it is refused, or the client stops.
    pub fn read(&self, chat: ChatId, seq: u64) -> impl Future<Output = Result<u64, Error>> + Send + use<> {
        self.ask(move |done| Command::Read { chat, seq, done })
    }

    /// Fetches a page of history from the main, as a sub: the newest messages below `before` (none: below the chat's
    /// `from`), at most `limit` (1 to 100).
    ///
    /// # Errors
    /// When it is refused, there is no connection, or the page doesn't fit the question.
    pub async fn history(&self, chat: ChatId, before: Option<u64>, limit: u64) -> Result<Page, Error> {
        let frame = move |id| ClientFrame::History { id, chat, before, limit };
        let page: Page = parsed(&self.request(frame).await?)?;
        let mut last = 0;
        for message in &page.messages {
            let fits = message.seq > last && before.is_none_or(|before| message.seq < before);
            if message.chat != chat || !fits {
                let seq = message.seq;
                return Err(Error::Protocol(format!("#{seq} after #{last} in a page below {before:?}")));
            }
            last = message.seq;
        }
        Ok(page)
    }

    /// Fetches the history of these chats from the main, at most `most` messages of each, and says that the sub is
    /// ready. Each page comes to `on_page` with its chat, newest page first. A page that fails is asked for again.
    ///
    /// # Errors
    /// When a page is refused for good, or the connection is lost: then call it again.
    pub async fn bootstrap(
        &self,
        chats: &[ChatEntry],
        most: u64,
        mut on_page: impl FnMut(ChatId, &Page),
    ) -> Result<(), Error> {
        for entry in chats.iter().filter(|entry| entry.from > 0) {
            let (mut before, mut left) = (None, most);
            while left > 0 {
                let page = self.patient_history(entry.id, before, left.min(100)).await?;
                on_page(entry.id, &page);
                left = left.saturating_sub(page.messages.len() as u64);
                match page.messages.first() {
                    Some(first) if page.more => before = Some(first.seq),
                    _ => break,
                }
            }
        }
        self.ready()
    }

    async fn patient_history(&self, chat: ChatId, before: Option<u64>, limit: u64) -> Result<Page, Error> {
        const TRIES: u32 = 20;
        let mut tries = 1;
        loop {
            match self.history(chat, before, limit).await {
                Err(Error::Refused(problem)) if problem.retry && tries < TRIES => tries += 1,
                result => return result,
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Says that a sub has its history: now, and at the beginning of each connection.
    ///
    /// # Errors
    /// When the client has stopped.
    pub fn ready(&self) -> Result<(), Error> {
        self.tell(Command::Ready)
    }

    /// Answers [`Event::HistoryRequest`], as a main without a storage.
    ///
    /// # Errors
    /// When the client has stopped.
    pub fn serve(&self, request: &HistoryRequest, page: Page) -> Result<(), Error> {
        self.tell(Command::Serve { request: request.request.clone(), page })
    }

    /// Tells that the user types. Say it about every 3 s; nobody hears of it while there is no connection.
    ///
    /// # Errors
    /// When the client has stopped.
    pub fn typing(&self, chat: ChatId) -> Result<(), Error> {
        self.tell(Command::Put(ClientFrame::Typing { chat }))
    }

    /// Watches who of these users is online, in place of those before, until the connection ends.
    ///
    /// # Errors
    /// When it is refused, or there is no connection.
    pub async fn watch(&self, users: Vec<String>) -> Result<Vec<Presence>, Error> {
        #[derive(serde::Deserialize)]
        struct Watched {
            presence: Vec<Presence>,
        }
        let watched: Watched = parsed(&self.request(move |id| ClientFrame::Watch { id, users }).await?)?;
        Ok(watched.presence)
    }

    /// Sends any frame with an id, and returns its `ok` as it came.
    ///
    /// # Errors
    /// When it is refused, or there is no connection.
    pub async fn request(
        &self,
        frame: impl FnOnce(u64) -> ClientFrame + Send + 'static,
    ) -> Result<Box<RawValue>, Error> {
        self.ask(move |done| Command::Request { frame: Box::new(frame), done }).await
    }

    /// Returns the messages that aren't answered, for those who store them.
    ///
    /// # Errors
    /// When the client has stopped.
    pub async fn unsent(&self) -> Result<Vec<Unsent>, Error> {
        self.ask(move |done| Command::Unsent { done }).await
    }

    /// Closes the connection with a close frame, and stops. Returns when its task has ended.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Leave(Shutdown::Goodbye));
        self.commands.closed().await;
    }

    /// Drops the connection as a lost network does, and stops. It is over when this returns.
    pub async fn cut(&self) {
        let _ = self.commands.send(Command::Leave(Shutdown::Cut));
        self.commands.closed().await;
    }

    fn tell(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).map_err(|_| stopped())
    }

    /// Asks now, whenever the answer is waited for.
    fn ask<T: Send, F: FnOnce(Waiter<T>) -> Command>(
        &self,
        command: F,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T, F> {
        let (done, answer) = oneshot::channel();
        let told = self.tell(command(done));
        async move {
            told?;
            answer.await.map_err(|_| stopped())?
        }
    }
}

fn stopped() -> Error {
    Error::Stopped(Ended::left())
}

fn parsed<T: serde::de::DeserializeOwned>(ok: &RawValue) -> Result<T, Error> {
    serde_json::from_str(ok.get()).map_err(|error| Error::Protocol(error.to_string()))
}
