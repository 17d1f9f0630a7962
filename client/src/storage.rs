//! Where a main keeps the history of its chats.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::frame::{ChatId, Message, Page};

/// A storage failed. Nothing is acknowledged that isn't stored: the client drops the connection, and the messages come
/// again on the next one.
#[derive(Debug, thiserror::Error)]
#[error("the storage failed: {0}")]
pub struct StorageError(#[from] Box<dyn std::error::Error + Send + Sync>);

/// Which messages of a chat there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The lowest seq.
    pub low: u64,
    /// The highest seq.
    pub high: u64,
    /// Whether older messages were there once and are lost.
    pub lossy: bool,
}

/// A main's history. To ensure that nothing is lost, an implementation keeps these rules:
///
/// - `append` has all of its messages or none, and they are durable when it returns.
/// - A message that is there already stays as it is.
/// - Messages come back as they were given: [`Message`] keeps the text of the frame.
/// - A storage that drops old messages says so, by `more` of [`Storage::before`] and by [`Bounds::lossy`].
///
/// Each device has a storage of its own.
pub trait Storage: Send + 'static {
    /// Stores messages, of one chat or of several.
    fn append(&mut self, messages: &[Message]) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Returns the newest messages below `before`, at most `limit`, ascending; `more`: there are older ones, or were.
    fn before(
        &mut self,
        chat: ChatId,
        before: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StorageError>> + Send;

    /// Returns the oldest messages above `after`, at most `limit`, ascending; `more`: there are newer ones.
    fn after(
        &mut self,
        chat: ChatId,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StorageError>> + Send;

    /// Returns which messages of a chat there are; none: there are none.
    fn bounds(&mut self, chat: ChatId) -> impl Future<Output = Result<Option<Bounds>, StorageError>> + Send;
}

/// A [`Storage`] in memory, bounded in bytes. Clones share what is stored.
///
/// When it is full it drops the oldest messages of the chat that holds the most bytes. It is for tests, bots and web
/// sessions; a phone needs a storage that outlives its process.
#[derive(Debug, Clone)]
pub struct MemoryStorage(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    chats: BTreeMap<ChatId, Kept>,
    bytes: usize,
    most: usize,
}

#[derive(Debug, Default)]
struct Kept {
    messages: BTreeMap<u64, Message>,
    bytes: usize,
    is_lossy: bool,
}

impl MemoryStorage {
    /// Returns an empty storage for at most `bytes` of frames.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { chats: BTreeMap::new(), bytes: 0, most: bytes })))
    }

    /// Returns a message.
    #[must_use]
    pub fn get(&self, chat: ChatId, seq: u64) -> Option<Message> {
        self.lock().chats.get(&chat)?.messages.get(&seq).cloned()
    }

    /// Returns how many messages of a chat there are.
    #[must_use]
    pub fn count(&self, chat: ChatId) -> usize {
        self.lock().chats.get(&chat).map_or(0, |kept| kept.messages.len())
    }

    /// Returns the bytes of all frames.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Stores messages; the same as [`Storage::append`], for those who don't wait. Returns how many were new.
    pub fn insert(&self, messages: &[Message]) -> usize {
        let mut inner = self.lock();
        messages.iter().filter(|message| inner.insert(message)).count()
    }

    /// Returns which messages of a chat there are; the same as [`Storage::bounds`].
    #[must_use]
    pub fn span(&self, chat: ChatId) -> Option<Bounds> {
        let inner = self.lock();
        let kept = inner.chats.get(&chat)?;
        let (low, high) = (kept.messages.first_key_value()?.0, kept.messages.last_key_value()?.0);
        Some(Bounds { low: *low, high: *high, lossy: kept.is_lossy })
    }

    /// Returns a page of history; the same as [`Storage::before`].
    #[must_use]
    pub fn page(&self, chat: ChatId, before: u64, limit: usize) -> Page {
        self.lock().page_before(chat, before, limit)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// True: it is new.
    fn insert(&mut self, message: &Message) -> bool {
        let kept = self.chats.entry(message.chat).or_default();
        if kept.messages.contains_key(&message.seq) {
            return false;
        }
        let size = message.raw().len();
        kept.messages.insert(message.seq, message.clone());
        kept.bytes += size;
        self.bytes += size;
        while self.bytes > self.most && self.evict() {}
        true
    }

    /// Drops the oldest message of the largest chat. Its newest one stays: it says how far the device is.
    fn evict(&mut self) -> bool {
        let largest = self.chats.values_mut().filter(|kept| kept.messages.len() > 1);
        let Some(kept) = largest.max_by_key(|kept| kept.bytes) else { return false };
        let Some((_, message)) = kept.messages.pop_first() else { return false };
        let size = message.raw().len();
        kept.bytes -= size;
        kept.is_lossy = true;
        self.bytes -= size;
        true
    }

    fn page_before(&self, chat: ChatId, before: u64, limit: usize) -> Page {
        let Some(kept) = self.chats.get(&chat) else { return Page::default() };
        let mut below = kept.messages.range(..before).rev().map(|(_, message)| message);
        let mut messages: Vec<Message> = below.by_ref().take(limit).cloned().collect();
        messages.reverse();
        Page { messages, more: below.next().is_some() || kept.is_lossy }
    }

    fn page_after(&self, chat: ChatId, after: u64, limit: usize) -> Page {
        let Some(kept) = self.chats.get(&chat) else { return Page::default() };
        let mut above = kept.messages.range(after.saturating_add(1)..).map(|(_, message)| message);
        let messages = above.by_ref().take(limit).cloned().collect();
        Page { messages, more: above.next().is_some() }
    }
}

impl Storage for MemoryStorage {
    async fn append(&mut self, messages: &[Message]) -> Result<(), StorageError> {
        self.insert(messages);
        Ok(())
    }

    async fn before(&mut self, chat: ChatId, before: u64, limit: usize) -> Result<Page, StorageError> {
        Ok(self.page(chat, before, limit))
    }

    async fn after(&mut self, chat: ChatId, after: u64, limit: usize) -> Result<Page, StorageError> {
        Ok(self.lock().page_after(chat, after, limit))
    }

    async fn bounds(&mut self, chat: ChatId) -> Result<Option<Bounds>, StorageError> {
        Ok(self.span(chat))
    }
}

/// No storage: the application stores what [`crate::Event::Message`] brings, and acknowledges it.
#[derive(Debug, Clone, Copy)]
pub enum NoStorage {}

impl Storage for NoStorage {
    async fn append(&mut self, _: &[Message]) -> Result<(), StorageError> {
        match *self {}
    }

    async fn before(&mut self, _: ChatId, _: u64, _: usize) -> Result<Page, StorageError> {
        match *self {}
    }

    async fn after(&mut self, _: ChatId, _: u64, _: usize) -> Result<Page, StorageError> {
        match *self {}
    }

    async fn bounds(&mut self, _: ChatId) -> Result<Option<Bounds>, StorageError> {
        match *self {}
    }
}
