//! The console over real daemons: orphan queues, figures while NSQ is down, data that survives an edge.

use serde_json::{Value, json};

use crate::faults::carrier;
use crate::stories::client::PATIENCE;
use crate::stories::world::{Pair, channel, topic};
use crate::stories::{Deployment, World};
use crate::support::wait_until;

/// Starts a deployment whose reconciler never works, so that the story's orphans stay, and whose lists are fresh.
async fn start() -> World {
    let mut world = Deployment::Stack.with("KEEPSTEP_CONSOLE_REFRESH", "100ms").start().await;
    for edge in &mut world.edges {
        edge.kill9();
    }
    let redis = &world.stack.as_ref().unwrap().redis;
    redis.command(&["SET", "ks:{w.reconcile}", "the story"]).await.unwrap();
    for edge in &mut world.edges {
        edge.restart().await;
        edge.ready().await;
    }
    world
}

/// Returns user, reason and `foreign` of each item.
fn found(list: &Value) -> Vec<(String, String, bool)> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list in {list}"));
    let text =
        |item: &Value, field: &str| item[field].as_str().unwrap_or_else(|| panic!("{item}")).to_owned();
    let mut all: Vec<_> = items
        .iter()
        .map(|item| (text(item, "device"), text(item, "reason"), item["foreign"] == true))
        .collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn orphans_are_listed_and_swept_and_nothing_else() {
    let world = start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, mut bobs, mut web) = (alice.phone(0).await, bob.phone(1).await, alice.web(1).await);
    let chat = alice.direct(&bob).await;
    let secret_chat = alice.group("without Bob").await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    bobs.leaves().await;
    phone.says_many(&chat, "waits for Bob", 6).await;
    let termination = alice.ends(&web.id).await;
    web.closed().await;
    world.terminated(&alice.api(0), &termination).await;

    // Brought back by a crash, never known, another deployment's, and left over from a chat that Bob isn't in.
    let (unknown, foreign) = ("00000000-0000-4000-8000-00000000beef", "00000000-0000-4000-8000-0000000f0e16");
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, &chat).await];
    for (chat, device) in [(&chat, &web.id), (&chat, &unknown.to_owned()), (&secret_chat, &bobs.id)] {
        let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier(&world, chat).await];
        nsqd.post(&format!("/channel/create?topic={}&channel={}", topic(chat), channel(device)), "").await;
    }
    nsqd.post(&format!("/topic/create?topic={}", topic(foreign)), "").await;
    nsqd.post(&format!("/channel/create?topic={}&channel={}", topic(foreign), channel(foreign)), "").await;
    nsqd.post(&format!("/channel/create?topic={}&channel=archive", topic(&chat)), "").await;
    phone.says(&chat, "and one for those who shouldn't be there").await;

    let admin = world.admin();
    let is = |device: &str, reason: &str, foreign| (device.to_owned(), reason.to_owned(), foreign);
    let mut wanted = vec![
        is(&web.id, "terminated", false),
        is(unknown, "unknown_device", false),
        is(&bobs.id, "not_a_member", false),
        is(foreign, "unknown_device", true),
    ];
    wanted.sort();
    let list = wait_until("all of them to be listed, with what is in them", PATIENCE, || async {
        let list = admin.get("/admin/v1/channels/orphans").await.with(200);
        let filled =
            list["items"].as_array()?.iter().any(|item| item["device"] == web.id && item["depth"] == 1);
        filled.then_some(list)
    })
    .await;
    assert_eq!(found(&list), wanted, "{list}");
    assert_eq!((&list["truncated"], &list["unreachable"]), (&json!(false), &json!([])));
    let one = list["items"].as_array().unwrap().iter().find(|item| item["device"] == web.id).unwrap();
    assert_eq!((&one["user"], &one["topic"]), (&json!(alice.name), &json!(topic(&chat))));
    let searched =
        admin.get(&format!("/admin/v1/channels/orphans?search={}", &unknown[20..])).await.with(200);
    assert_eq!(found(&searched), [is(unknown, "unknown_device", false)]);
    let page = admin.get("/admin/v1/channels/orphans?limit=1").await.with(200);
    let next = page["next"].as_str().expect("there are more");
    let rest =
        admin.get(&format!("/admin/v1/channels/orphans?after={}", next.replace(':', "%3A"))).await.with(200);
    let count = |list: &Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(&page) + count(&rest), count(&list));

    // A dry run says what it would do, and leaves everything.
    let dry = admin.post("/admin/v1/channels/sweep?dry_run=true", json!({})).await.with(200);
    assert!(dry["items"].as_array().unwrap().iter().all(|item| item["result"] == "would_remove"), "{dry}");
    let mut ours = wanted.clone();
    ours.retain(|(_, _, foreign)| !foreign);
    assert_eq!(found(&dry), ours);
    assert_eq!((&dry["removed"], &dry["dry_run"]), (&json!(0), &json!(true)));
    assert!(dry["foreign"].as_u64() >= Some(1), "{dry}");
    assert_eq!(world.queues("", &channel(&web.id)).await.len(), 1);

    // One at a time.
    let swept = admin.post("/admin/v1/channels/sweep?limit=1", json!({})).await.with(200);
    assert_eq!((&swept["removed"], count(&swept)), (&json!(1), 1), "{swept}");
    assert!(swept["left"].as_u64() >= Some(2), "{swept}");
    // Two at the same time: one of them has to wait for the other.
    let elsewhere = world.api(1, admin.token.as_deref().unwrap());
    let (one, other) = tokio::join!(
        admin.post("/admin/v1/channels/sweep", json!({})),
        elsewhere.post("/admin/v1/channels/sweep", json!({})),
    );
    let (swept, refused) = if one.status == 200 { (one, other) } else { (other, one) };
    refused.problem(409, "conflict");
    let swept = swept.with(200);
    assert_eq!((&swept["failed"], &swept["left"]), (&json!(0), &json!(0)), "{swept}");

    // All of ours are gone, here and at nsqlookupd, and stay so; what belongs to others is there.
    for device in [web.id.as_str(), unknown] {
        assert_eq!(world.traces(device).await, Vec::<String>::new());
    }
    assert_eq!(world.queues(&topic(&secret_chat), &channel(&bobs.id)).await, []);
    assert!(!world.queues(&topic(foreign), &channel(foreign)).await.is_empty());
    assert_eq!(world.queues("", "archive").await.len(), 1);
    let left = wait_until("the list to be new", PATIENCE, || async {
        let list = admin.get("/admin/v1/channels/orphans").await.with(200);
        (found(&list) == [is(foreign, "unknown_device", true)]).then_some(list)
    })
    .await;
    assert!(left["total"].as_u64() >= Some(1));
    // What is wanted was never touched: Bob has all of it, from his queue.
    assert_eq!(world.queue(&chat, &bobs.id).await.depth, 7);
    bobs.connects(0).await;
    bobs.hears(&chat, 7).await;

    // Another deployment's only when that is said.
    let swept = admin.post("/admin/v1/channels/sweep?foreign=true", json!({})).await.with(200);
    assert_eq!(found(&swept), [is(foreign, "unknown_device", true)]);
    assert!(swept["removed"].as_u64() >= Some(1), "{swept}");
    assert_eq!(world.queues("", &channel(foreign)).await, []);
    assert_eq!(world.traces(foreign).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_wanted_is_no_orphan_though_its_nsqd_is_silent() {
    let world = start().await;
    let Pair { phone, bobs, chat, .. } = world.pair().await;
    bobs.gets(json!({ "type": "chat", "event": "joined" })).await;
    let carrier = carrier(&world, &chat).await;
    let nsqd = &world.stack.as_ref().unwrap().nsqd[carrier];
    // nsqlookupd remembers its queues, and nobody shows them.
    nsqd.sigstop();
    let admin = world.admin();
    let swept = admin.post("/admin/v1/channels/sweep", json!({})).await.with(200);
    assert_eq!((&swept["items"], &swept["unreachable"]), (&json!([]), &json!([nsqd.http()])), "{swept}");
    // What can't be asked is said on every list, and counted nowhere; what waits for it is in the outbox.
    let sent = phone.says(&chat, "waits in the outbox").await;
    assert_eq!(sent.seq, 1);
    let overview = wait_until("the outbox to be shown", PATIENCE, || async {
        let overview = admin.get("/admin/v1/overview").await.with(200);
        let waits =
            overview["cluster"]["outbox"].as_u64()? >= 1 && overview["cluster"]["outbox_oldest_ms"].is_u64();
        waits.then_some(overview)
    })
    .await;
    let servers = overview["broker"].as_array().unwrap();
    let silent = servers.iter().find(|server| server["node"] == nsqd.http()).unwrap();
    assert!(silent["problem"].is_string() && silent["depth"].is_null(), "{silent}");
    let list = wait_until("the list to say so", PATIENCE, || async {
        let list = admin.get("/admin/v1/devices").await.with(200);
        (list["unreachable"] == json!([nsqd.http()])).then_some(list)
    })
    .await;
    assert_eq!(list["total"], 2);
    nsqd.sigcont();
    bobs.hears(&chat, 1).await;
    wait_until("nothing to wait", PATIENCE, || async {
        let overview = admin.get("/admin/v1/overview").await.with(200);
        (overview["cluster"]["outbox"] == 0 && overview["cluster"]["outbox_chats"] == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_outlives_its_edges() {
    let mut world = start().await;
    world.admin().post("/admin/v1/users/somebody/kick", json!({})).await.with(200);
    let before = world.admin().get("/admin/v1/audit").await.with(200);
    assert_eq!(before["items"][0]["user"], "somebody");
    for edge in &mut world.edges {
        edge.kill9();
        edge.restart().await;
        edge.ready().await;
    }
    let after = world.admin().get("/admin/v1/audit").await.with(200);
    assert_eq!(after, before);
}
