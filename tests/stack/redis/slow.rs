//! A Redis whose every answer takes nearly a second.

use super::*;
use crate::support::SlowLink;

/// More than go out together.
const MANY: usize = 600;

#[tokio::test]
async fn a_page_of_many_chats_is_read_although_each_answer_takes_a_second() {
    let redis = Redis::start().await;
    let link = SlowLink::start(&redis.addr()).await;
    let url = format!("redis://{}/", link.addr());
    let store = RedisStore::connect(&url, RedisOptions::default()).await.unwrap();
    // All on one page of the index.
    let chats: Vec<ChatId> =
        (0..MANY).map(|n| format!("{n:08x}-0000-4000-8000-000000000007").parse().expect("an id")).collect();
    let users: Vec<UserId> = (0..MANY).map(|n| user(&format!("user-{n}"))).collect();
    let ids: Vec<String> = chats.iter().map(|chat| chat.hex()).collect();
    let index: Vec<&str> =
        ["SADD", "ks:{chats.7}"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    redis.command(&index).await.unwrap();
    for id in &ids {
        redis.command(&["HSET", &format!("ks:{{c.{id}}}:meta"), "node", "n1"]).await.unwrap();
    }
    assert_eq!(store.owing(7).await.unwrap().chats.len(), MANY);

    link.takes(440..460);
    let page = store.owing(7).await.expect("a page");
    assert_eq!((page.chats.len(), page.absent.len()), (MANY, 0));
    assert_eq!(store.device_states(&users).await.expect("all states").len(), MANY);
}
