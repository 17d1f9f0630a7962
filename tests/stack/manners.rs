//! Behaviours of Redis that a model must have, too. The simulation assumes each of them. (For nsqd:
//! `nsq/tests/contract/manners.rs`.)

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Redis, wait_until};

/// A call whose caller gave up may be executed long after, and the caller never learns it.
#[tokio::test]
async fn a_command_of_a_client_that_hung_up_is_executed_all_the_same() {
    let redis = Redis::start().await;
    redis.sigstop();
    let mut connection = TcpStream::connect(redis.addr()).await.unwrap();
    connection.write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nlate\r\n$1\r\n1\r\n").await.unwrap();
    drop(connection);
    redis.sigcont();
    let executed = || async { (redis.command(&["GET", "late"]).await.ok()? == "1").then_some(()) };
    wait_until("the command to be executed", Duration::from_secs(10), executed).await;
}

/// An event reaches those who listen at that moment, once, without the value.
#[tokio::test]
async fn a_keyspace_event_carries_no_value_and_is_lost_when_nobody_listens() {
    let redis = Redis::start().await;
    redis.command(&["CONFIG", "SET", "notify-keyspace-events", "Kh"]).await.unwrap();
    redis.command(&["HSET", "key", "field", "before"]).await.unwrap();
    let mut listener = TcpStream::connect(redis.addr()).await.unwrap();
    listener.write_all(b"*2\r\n$10\r\nPSUBSCRIBE\r\n$19\r\n__keyspace@0__:key*\r\n").await.unwrap();
    let mut heard = Vec::new();
    let mut hear = async |until: &[u8]| {
        let mut piece = [0; 1024];
        while !heard.windows(until.len()).any(|part| part == until) {
            let count = timeout(Duration::from_secs(10), listener.read(&mut piece)).await.expect("in time");
            heard.extend_from_slice(&piece[..count.unwrap()]);
        }
        String::from_utf8_lossy(&heard).into_owned()
    };
    hear(b":1\r\n").await;
    redis.command(&["HSET", "key", "field", "after"]).await.unwrap();
    let heard = hear(b"hset").await;
    assert_eq!(heard.matches("hset").count(), 1, "the event from before was told to nobody: {heard}");
    assert!(!heard.contains("after") && !heard.contains("field"), "{heard}");
}
