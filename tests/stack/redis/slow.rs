//! A Redis whose every answer takes nearly a second, and a process that is stopped while an answer arrives.

use super::*;
use crate::support::SlowLink;

/// More than go out together.
const MANY: usize = 600;

#[tokio::test]
async fn many_chats_are_read_although_each_answer_takes_a_second() {
    let redis = Redis::start().await;
    let link = SlowLink::start(&redis.addr()).await;
    let url = format!("redis://{}/", link.addr());
    let store = RedisStore::connect(&url, RedisOptions::default()).await.unwrap();
    let chats: Vec<ChatId> =
        (0..MANY).map(|n| format!("{n:08x}-0000-4000-8000-000000000007").parse().expect("an id")).collect();
    let users: Vec<UserId> = (0..MANY).map(|n| user(&format!("user-{n}"))).collect();
    for chat in &chats {
        redis.command(&["HSET", &format!("ks:{{c.{}}}:meta", chat.hex()), "node", "n1"]).await.unwrap();
    }
    link.takes(440..460);
    let found = store.subscriptions(&chats).await.expect("all of them");
    assert!(found.len() == MANY && found.iter().all(Option::is_some));
    assert!(store.untrimmed(&chats).await.expect("all of them").is_empty());
    assert_eq!(store.device_states(&users).await.expect("all states").len(), MANY);
}

/// Whoever got no processor for longer than any call may take, or was stopped, finds the answers of that time on its
/// connections. They are answers.
#[tokio::test]
async fn an_answer_that_came_while_the_process_stood_still_is_taken() {
    let redis = Redis::start().await;
    let link = SlowLink::start(&redis.addr()).await;
    let url = format!("redis://{}/", link.addr());
    let store = RedisStore::connect(&url, RedisOptions::default()).await.unwrap();
    let (alice, mut events) = (user("alice"), store.take_events().unwrap());
    let id = device(&store, &alice).await;
    store.watch_user(&alice).await.unwrap();
    link.takes(100..101);
    let Opened::Session { session, .. } = open(&store, &alice, id).await else { panic!("it opens") };
    let (group, by) = (new_chat(&alice, None), process("e-1", "1"));
    let others: Vec<UserId> = (0..50).map(|n| user(&format!("user-{n}"))).collect();
    // Some steps, one step, several commands at once, what is heard.
    let calls = async {
        tokio::join!(
            store.create_chat(&group),
            store.check_session(&alice, id, session, &by),
            store.device_states(&others),
            futures_util::future::join_all(others.iter().map(|other| store.watch_user(other))),
        )
    };
    let stands_still = async {
        // They are under way. Then nothing here moves; the link and Redis do.
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::thread::sleep(Duration::from_millis(2_500));
    };
    let ((created, checked, states, watched), ()) = tokio::join!(calls, stands_still);
    created.expect("a chat");
    checked.expect("a session");
    states.expect("states");
    watched.into_iter().collect::<Result<Vec<_>, _>>().expect("what is heard");
    // Nor was a connection given up for it.
    assert!(store.is_up());
    store.ping().await.expect("it answers");
    store.signal(&alice, Bytes::from_static(b"s")).await.unwrap();
    let heard = timeout(PATIENCE, events.recv()).await.expect("an event").unwrap();
    assert_eq!(heard, StoreEvent::Signal(alice, Bytes::from_static(b"s")));
    assert_eq!(store.notifications_missed(), 0);
}

async fn open(store: &RedisStore, owner: &UserId, id: DeviceId) -> Opened {
    let (found, at) = store.device_at(owner, id).await.unwrap().expect("the device");
    let after = Read { session: found.session, at };
    store
        .open_session(owner, id, found.generation, after, &process("e-1", "1"))
        .await
        .expect("it is asked for")
}
