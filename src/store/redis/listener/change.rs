//! A change of subscriptions that some callers request, made on the connection.

use std::{collections::HashSet, pin::Pin, time::Duration};

use futures_util::future::{try_join, try_join_all};
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;

use super::{
    super::{
        keys::{Keys, keyspace},
        patience::answered,
    },
    CHANNELS,
};
use crate::{
    domain::id::{ChatId, UserId},
    store::{Result, StoreError},
};

/// What is watched now.
#[derive(Default)]
pub(super) struct Watched {
    pub users: HashSet<UserId>,
    pub chats: HashSet<ChatId>,
    pub presence: HashSet<UserId>,
}

/// A request to subscribe or unsubscribe these, as the watches require now.
pub(super) struct Order {
    pub which: Subject,
    pub done: oneshot::Sender<Result<()>>,
}

pub(super) enum Subject {
    User(UserId),
    Chats(Vec<ChatId>),
    Presence(Vec<UserId>),
}

impl Subject {
    pub fn is_empty(&self) -> bool {
        match self {
            Self::User(_) => false,
            Self::Chats(chats) => chats.is_empty(),
            Self::Presence(users) => users.is_empty(),
        }
    }
}

/// Returns the channels with a user's events.
pub(super) fn user_channels(keys: &Keys, database: i64, user: &UserId) -> [String; 2] {
    [keyspace(database, &keys.read(user)), keys.signal(user)]
}

/// A change of subscriptions, under way.
pub(super) type Changing = Pin<Box<dyn Future<Output = std::result::Result<(), redis::RedisError>> + Send>>;

/// The combined change of some orders. No channel is on both sides.
pub(super) struct Change {
    orders: Vec<Order>,
    on: Vec<String>,
    off: Vec<String>,
}

impl Change {
    /// Returns the change for these orders; the current watches decide.
    pub fn of(orders: Vec<Order>, watched: &Watched, keys: &Keys, database: i64) -> Self {
        let (mut on, mut off) = (HashSet::new(), HashSet::new());
        for order in &orders {
            match &order.which {
                Subject::User(user) => {
                    let side = if watched.users.contains(user) { &mut on } else { &mut off };
                    side.extend(user_channels(keys, database, user));
                }
                Subject::Chats(chats) => {
                    for chat in chats {
                        let side = if watched.chats.contains(chat) { &mut on } else { &mut off };
                        side.insert(keys.doorbell(*chat));
                    }
                }
                Subject::Presence(users) => {
                    for user in users {
                        let side = if watched.presence.contains(user) { &mut on } else { &mut off };
                        side.insert(keys.presence(user));
                    }
                }
            }
        }
        Self { orders, on: on.into_iter().collect(), off: off.into_iter().collect() }
    }

    /// Sends everything at once, and waits until Redis has confirmed it.
    pub async fn make(
        self,
        connection: MultiplexedConnection,
        deadline: Duration,
    ) -> std::result::Result<(), redis::RedisError> {
        let Self { orders, on, off } = self;
        let on = on.chunks(CHANNELS).map(|channels| {
            let mut connection = connection.clone();
            async move { connection.subscribe(channels).await }
        });
        let off = off.chunks(CHANNELS).map(|channels| {
            let mut connection = connection.clone();
            async move { connection.unsubscribe(channels).await }
        });
        let made = answered(deadline, try_join(try_join_all(on), try_join_all(off))).await.map(drop);
        for order in orders {
            let answer = match &made {
                Ok(()) => Ok(()),
                Err(err) => Err(StoreError::Unavailable(redis::RedisError::to_string(err))),
            };
            let _ = order.done.send(answer);
        }
        made
    }
}
