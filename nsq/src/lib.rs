//! An async NSQ client for thousands of subscriptions. It knows NSQ and nothing of chats.
//!
//! A short tour:
//! - [`Publisher`] publishes to one nsqd, and reports for each failed message whether nsqd may have it all the same.
//! - [`Subscription`] is a value that its owner holds: one channel, one connection, events into a channel that many
//!   subscriptions may share. It survives everything except its owner, and costs next to nothing while idle.
//! - [`Pool`] keeps identified connections ready, so that a subscription costs one write and lasts only as long as it is
//!   needed.
//! - [`Message`] is a delivery, [`Receipt`] settles it. Dropping a receipt requeues its message.
//! - [`NsqdAdmin`] and [`LookupdAdmin`] create, delete and inspect topics and channels.
//!
//! ```no_run
//! use bytes::Bytes;
//! use keepstep_nsq::{ConnectOptions, Event, Publisher, SubscribeOptions, Subscription};
//!
//! # async fn tour() -> Result<(), keepstep_nsq::PublishError> {
//! let publisher = Publisher::new("localhost:4150", ConnectOptions::default());
//! publisher.publish("greetings", Bytes::from_static(b"hello")).await?;
//!
//! let (events, mut inbox) = tokio::sync::mpsc::channel(64);
//! let options = SubscribeOptions::new("localhost:4150", "greetings", "reader");
//! let subscription = Subscription::open(options, "tag", events);
//! while let Some((_tag, event)) = inbox.recv().await {
//!     match event {
//!         Event::Message(message) => {
//!             let (body, receipt) = message.into_parts();
//!             println!("{}", String::from_utf8_lossy(&body));
//!             receipt.finish();
//!             break;
//!         }
//!         Event::Attached => {}
//!         Event::Detached { error, retry_in } => eprintln!("{error}; next try in {retry_in:?}"),
//!         Event::ChannelGone => break,
//!     }
//! }
//! subscription.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Inside: `frame` is the wire, `identify` the handshake, `connection` a socket that is driven by polling;
//! `subscription` and `publisher` each run one task over a connection; `subscription::credit` decides how many messages
//! may be on the way, which determines the latency. `admin` is HTTP.

mod address;
mod admin;
mod backoff;
mod connection;
mod frame;
mod identify;
mod largest;
mod pool;
mod publisher;
mod subscription;

pub use address::Address;
pub use admin::{
    AdminError, ChannelBrief, ChannelStats, ClientStats, LookupdAdmin, LookupdInfo, LookupdNode, NodeInfo,
    NsqdAdmin, Producer, StatsFilter, TopicLookup, TopicStats, install_crypto_provider,
};
pub use frame::valid_name;
pub use identify::ConnectOptions;
pub use largest::{LargestError, largest_message};
pub use pool::{Pool, PoolOptions};
pub use publisher::{PublishError, Publisher};
pub use subscription::{
    Budget, Delivery, Event, Hold, Message, Reattach, Receipt, SubscribeOptions, Subscription,
};
