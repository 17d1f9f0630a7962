//! An async SDK for devices of Keepstep: phones, web sessions, bots.
//!
//! A device is registered over HTTP ([`Api`]) and then stays connected ([`Client`]). A *main* (the phone) keeps the
//! history of its chats in a [`Storage`] and serves it; a *sub* (a web session) fetches it from the main. A bot that only sends
//! needs no device: [`Api::send`].
//!
//! ```no_run
//! use keepstep_client::{Api, Client, DeviceKind, Draft, Event, MemoryStorage, Registration};
//!
//! # async fn tour(user_token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let api = Api::new("http://127.0.0.1:8080")?.with_token(user_token);
//! // Keep its id and token: without the id, registering after a restart is refused (`main_exists`).
//! let phone = api.register(&Registration::new(DeviceKind::Main, "Alice's phone", "android")).await?;
//! let chat = api.direct_chat("bob").await?.id;
//!
//! let storage = MemoryStorage::new(64 << 20);
//! let (client, mut events) = Client::builder("http://127.0.0.1:8080", &phone.token)?.storage(storage).start();
//! let sent = client.send(chat, Draft::text("hello Bob")).await?;
//! println!("#{} is durable", sent.seq);
//! while let Some(event) = events.next().await {
//!     match event {
//!         // Stored and acknowledged already.
//!         Event::Message(message) => println!("#{} {}: {:?}", message.seq, message.from, message.text()),
//!         Event::Disconnected { ended, retry_in } => eprintln!("{ended}; next try in {retry_in:?}"),
//!         Event::Stopped(ended) => return Err(ended.into()),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The layers, from the bottom up, each usable by itself:
//! - [`frame`]: the frames of `docs/protocol.md` as types.
//! - [`session`]: the core without I/O: order and gaps per chat, cumulative acknowledgements, an outbox whose messages
//!   are sent again under the same key, read offsets. No clock, no randomness: a simulation can drive it.
//! - [`transport`]: a WebSocket over any stream.
//! - [`Client`]: both together, with [`Storage`], [`Backoff`] and a rule for each end ([`CloseClass`]).
//! - [`http`]: the calls that a device needs.

pub mod frame;
pub mod http;
pub mod session;
pub mod transport;

mod backoff;
mod client;
mod close;
mod event;
mod storage;

pub use backoff::Backoff;
pub use client::{Acks, Builder, Client, Error, Events, Reconnect};
pub use close::{Close, CloseClass, Ended};
pub use event::{Event, Receipt, Violation};
pub use frame::{ChatEntry, ChatId, DeviceId, DeviceKind, Draft, Message, MessageKey, Page, Problem};
pub use http::{Api, ApiError, Registration};
pub use storage::{Bounds, MemoryStorage, NoStorage, Storage, StorageError};
pub use transport::{Connect, ConnectError, Credential, Dial};
