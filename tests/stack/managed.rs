//! A managed Redis: without CONFIG, or for a user with few rights. The edge checks the settings that it can read, and
//! proves events; the operator answers for the rest.

use serde_json::json;

use crate::stories::start::refused;
use crate::stories::user::User;
use crate::support::{Aof, Edge, EdgeConfig, Nsqd, Redis, RedisOptions};

/// The settings that such services make for their customers.
const EVENTS: [&str; 2] = ["--notify-keyspace-events", "Kh"];
const NO_CONFIG: [&str; 3] = ["--rename-command", "CONFIG", ""];

async fn redis(aof: Aof, args: &[&str]) -> Redis {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Redis::start_with(RedisOptions { aof, args, ..RedisOptions::default() }).await
}

/// Checks that everything works there: messages, and offsets by events alone.
async fn works(edge: Edge) {
    edge.ready().await;
    let ending = &uuid::Uuid::new_v4().simple().to_string()[..12];
    let user = |name: &str| User::new(&format!("{name}.{ending}"), [edge.listen()].into());
    let (alice, bob) = (user("alice"), user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let (web, chat) = (bob.web(0).await, alice.direct(&bob).await);
    phone.says_many(&chat, "hello", 5).await;
    for device in [&phone, &bobs, &web] {
        device.hears(&chat, 5).await;
    }
    assert_eq!(bobs.reads(&chat, 5).await, 5);
    web.gets(json!({ "type": "read", "chat": chat, "seq": 5 })).await;
    assert_eq!(edge.metric("keepstep_notifications_missed_total").await, 0.0);
}

fn on(redis: &Redis, nsqd: &Nsqd) -> EdgeConfig {
    EdgeConfig::on(redis, [nsqd], None).set("KEEPSTEP_READS_SWEEP", "1h")
}

#[tokio::test]
async fn a_redis_without_config_is_used_when_somebody_answers_for_it() {
    let nsqd = Nsqd::start(None).await;
    let all = redis(Aof::Always, &[&EVENTS[..], &NO_CONFIG[..]].concat()).await;
    let config = on(&all, &nsqd);
    refused(config.clone(), &["appendfsync", "CONFIG GET", "KEEPSTEP_REDIS_TRUSTED=true"]).await;
    let mut edge = Edge::start(config.set("KEEPSTEP_REDIS_TRUSTED", "true")).await;
    let log = edge.process().log();
    assert!(
        log.contains("KEEPSTEP_REDIS_TRUSTED says that")
            && !log.contains("enabling Redis's keyspace events failed"),
        "{log}"
    );
    works(edge).await;

    // What it does show counts, whatever was said: it evicts, it keeps no file, it tells no events.
    let trusted = |redis: &Redis| on(redis, &nsqd).set("KEEPSTEP_REDIS_TRUSTED", "true");
    let evicts = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let evicts = redis(Aof::Always, &[&EVENTS[..], &NO_CONFIG[..], &evicts[..]].concat()).await;
    refused(trusted(&evicts), &["noeviction"]).await;
    let volatile = redis(Aof::Off, &[&EVENTS[..], &NO_CONFIG[..]].concat()).await;
    refused(trusted(&volatile), &["appendonly"]).await;
    let silent = redis(Aof::Always, &NO_CONFIG).await;
    refused(trusted(&silent), &["notify-keyspace-events Kh", "no event came"]).await;
}

#[tokio::test]
async fn a_user_who_may_do_little_is_enough() {
    let nsqd = Nsqd::start(None).await;
    let redis = redis(Aof::Always, &EVENTS).await;
    // Its own keys and channels, and nothing that is for administrators: neither CONFIG nor INFO.
    let acl = "ACL SETUSER keepstep on >of-a-test ~ks:* &ks:* &__keyspace@0__:ks:* +@all -@admin -@dangerous";
    assert_eq!(redis.command(&acl.split(' ').collect::<Vec<_>>()).await.unwrap(), "OK");
    let url = format!("redis://keepstep:of-a-test@{}/", redis.addr());
    let config = on(&redis, &nsqd).set("KEEPSTEP_REDIS_URL", url);
    refused(config.clone(), &["appendonly", "maxmemory-policy", "KEEPSTEP_REDIS_TRUSTED=true"]).await;
    works(Edge::start(config.set("KEEPSTEP_REDIS_TRUSTED", "true")).await).await;
    let denied = redis.command(&["ACL", "LOG"]).await.unwrap();
    let denied: Vec<&str> = denied.lines().filter(|line| line.contains('|') || !line.contains(' ')).collect();
    assert!(
        !denied.iter().any(|line| line.starts_with("ks:")),
        "no key or channel is beyond these: {denied:?}"
    );
}

#[tokio::test]
async fn a_setting_that_is_right_is_not_set() {
    let nsqd = Nsqd::start(None).await;
    let sets = async |redis: &Redis| {
        let stats = redis.command(&["INFO", "commandstats"]).await.unwrap();
        stats.contains("cmdstat_config|set")
    };
    let right = redis(Aof::Always, &EVENTS).await;
    works(Edge::start(on(&right, &nsqd)).await).await;
    assert!(!sets(&right).await, "CONFIG SET was used, and nothing was missing");
    let nsqd = Nsqd::start(None).await;
    let wrong = redis(Aof::Always, &[]).await;
    works(Edge::start(on(&wrong, &nsqd)).await).await;
    assert!(sets(&wrong).await);
}
