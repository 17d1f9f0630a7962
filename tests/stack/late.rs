//! Calls to Redis that are executed late: after their callers gave up, and after others have continued.

use std::time::Duration;

use serde_json::json;

use crate::stories::Deployment;
use crate::stories::client::{PATIENCE, Socket};
use crate::stories::device::Device;
use crate::stories::world::World;
use crate::support::{Edge, LateLink, What, stays, wait_until};

/// Returns the mark of the request by which edge 0 opens a session of a user's first device: the device, its generation
/// (the first is 2), the edge.
fn opening_of(device: &Device) -> String {
    format!("{}\r\n$1\r\n2\r\n${}\r\n{FAR}\r\n", device.id.replace('-', ""), FAR.len())
}

/// The name of edge 0.
const FAR: &str = "far-away";

/// Restarts edge 0 with a link to Redis that can hold a call.
async fn behind_a_late_link(world: &mut World, settings: &[(&str, &str)]) -> LateLink {
    let stack = world.stack.as_ref().unwrap();
    let link = LateLink::to(&stack.redis.addr()).await;
    let config = stack.edge().set("KEEPSTEP_EDGE", FAR);
    let config = config.set("KEEPSTEP_REDIS_URL", format!("redis://{}/", link.addr()));
    let config = settings.iter().fold(config, |config, (name, value)| config.set(name, *value));
    world.edges[0] = Edge::start(config).await;
    world.edges[0].ready().await;
    link
}

const QUICK: [(&str, &str); 2] = [("KEEPSTEP_LEASE", "1500ms"), ("KEEPSTEP_LEASE_RENEWAL", "500ms")];
/// Longer than a lease, and the renewals of a few.
const LONG: Duration = Duration::from_secs(4);

#[tokio::test]
async fn an_opening_that_comes_late_takes_no_device_from_a_newer_socket() {
    let quick = QUICK.iter().fold(Deployment::Stack.with("KEEPSTEP_LOG", "debug"), |setup, (name, value)| {
        setup.with(name, value)
    });
    let mut world = quick.start().await;
    let link = behind_a_late_link(&mut world, &QUICK).await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.registers("main").await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    link.hold(&opening_of(&phone), What::Request);
    phone.opens(0).await;
    link.held().await;
    assert_eq!(phone.closed().await.0, 4304, "its edge gives up");
    phone.connects(1).await;
    phone.says(&chat, "here").await;

    link.let_go().await;
    stays(LONG, async || assert_eq!(phone.memory().closed, None)).await;
    let sent = bobs.says(&chat, "still there?").await;
    phone.hears(&chat, sent.seq).await;
    // A newer connection that is there is another matter.
    let mut other = Socket::open(&world.edges[0].listen(), &phone.token).await;
    other.frame_of("welcome").await;
    assert_eq!(phone.closed().await.0, 4409);
}

#[tokio::test]
async fn a_session_says_nothing_more_when_the_lease_of_redis_is_over() {
    // No renewal in between: the first lease is what counts.
    let settings = [("KEEPSTEP_LEASE", "3s"), ("KEEPSTEP_LEASE_RENEWAL", "2900ms")];
    let setup =
        settings.iter().fold(Deployment::Stack.with("KEEPSTEP_LOG", "debug"), |setup, (name, value)| {
            setup.with(name, value)
        });
    let mut world = setup.start().await;
    let link = behind_a_late_link(&mut world, &settings).await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (mut phone, bobs) = (alice.phone(1).await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    bobs.says(&chat, "hi").await;
    phone.hears(&chat, 1).await;
    phone.leaves().await;

    link.hold(&opening_of(&phone), What::Answer);
    phone.opens(0).await;
    link.held().await;
    // The answer is late, and not so late that it is given up.
    tokio::time::sleep(Duration::from_millis(1600)).await;
    link.let_go().await;
    phone.until("welcome", |memory| memory.welcome.is_object().then_some(())).await;
    let sent = bobs.says(&chat, "you are here").await;
    phone.hears(&chat, sent.seq).await;
    link.freeze();
    wait_until("the lease to be over", PATIENCE, || async {
        let devices = alice.api(1).get("/v1/devices").await.ok();
        (devices["items"][0]["online"] == false).then_some(())
    })
    .await;
    let late = bobs.says(&chat, "are you still?").await;
    assert_eq!(phone.closed().await.0, 4304);
    assert!(phone.memory().chat(&chat).unwrap().last < late.seq, "the device may be somebody else's by now");
    phone.connects(1).await;
    phone.hears(&chat, late.seq).await;
}

#[tokio::test]
async fn an_opening_that_is_slow_gives_way_to_a_newer_one() {
    let mut world = Deployment::Stack.start().await;
    let link = behind_a_late_link(&mut world, &[]).await;
    let alice = world.user("alice");
    let mut phone = alice.registers("main").await;
    link.hold(&opening_of(&phone), What::Request);
    phone.opens(0).await;
    link.held().await;
    // The network has changed under the phone, say: its first connection stays open, and nobody is there. Clearly later, and not
    // so late that it is given up.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut newer = Socket::open(&world.edges[1].listen(), &phone.token).await;
    newer.frame_of("welcome").await;
    link.let_go().await;
    assert_eq!(phone.closed().await.0, 4304);
    let after = tokio::time::timeout(Duration::from_secs(4), newer.closed()).await;
    assert!(after.is_err(), "the newer one was closed: {after:?}");
}

#[tokio::test]
async fn an_opening_that_comes_when_its_edge_is_dead_ends_like_any_other() {
    let quick = QUICK.iter().fold(Deployment::Stack.with("KEEPSTEP_LOG", "debug"), |setup, (name, value)| {
        setup.with(name, value)
    });
    let mut world = quick.start().await;
    let link = behind_a_late_link(&mut world, &QUICK).await;
    let alice = world.user("alice");
    let (mut phone, web) = (alice.phone(1).await, alice.web(1).await);
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    let offline = json!({ "type": "device", "event": "offline", "device": phone.id });
    phone.leaves().await;
    web.gets(offline.clone()).await;

    link.hold(&opening_of(&phone), What::Request);
    phone.opens(0).await;
    link.held().await;
    assert_eq!(phone.closed().await.0, 4304, "its edge gives up");
    world.edges[0].kill9();
    let redis = &world.stack.as_ref().unwrap().redis;
    wait_until("the other edge to look at what it left", PATIENCE, || async {
        let looks = redis.command(&["EXISTS", &format!("ks:{{w.lapse.{FAR}}}")]).await.unwrap();
        (looks == "1").then_some(())
    })
    .await;
    link.let_go().await;
    let open = alice.api(1).get("/v1/devices").await.ok();
    let open = open["items"].as_array().unwrap().iter().find(|one| one["id"] == phone.id.as_str()).cloned();
    assert_eq!(open.expect("the phone")["online"], false, "its edge is dead");
    web.gets(offline).await;
}
