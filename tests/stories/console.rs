//! The console's lists of everything.

use serde_json::{Value, json};

use super::client::{Api, PATIENCE, user_token};
use super::world::Pair;
use super::{Deployment, World};
use crate::support::wait_until;

/// The setting for fresh lists without a long wait.
const SOON: (&str, &str) = ("KEEPSTEP_CONSOLE_REFRESH", "100ms");

/// Every admin call.
const CALLS: &[(&str, &str)] = &[
    ("GET", "/admin/v1/overview"),
    ("GET", "/admin/v1/users"),
    ("GET", "/admin/v1/devices"),
    ("GET", "/admin/v1/users/alice/devices"),
    ("POST", "/admin/v1/users/alice/kick"),
    ("GET", "/admin/v1/devices/00000000-0000-4000-8000-00000000beef/channels"),
    ("DELETE", "/admin/v1/devices/00000000-0000-4000-8000-00000000beef"),
    ("DELETE", "/admin/v1/devices/00000000-0000-4000-8000-00000000beef?dry_run=true"),
    ("GET", "/admin/v1/channels/orphans"),
    ("POST", "/admin/v1/channels/sweep"),
    ("POST", "/admin/v1/channels/sweep?dry_run=true"),
    ("GET", "/admin/v1/audit"),
    ("GET", "/admin/v1/audit?format=jsonl"),
];

fn names(list: &Value, field: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list in {list}"));
    items.iter().map(|item| item[field].as_str().unwrap_or_else(|| panic!("{item}")).to_owned()).collect()
}

/// Returns all pages of a list, two items at a time.
async fn all(admin: &Api, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("{path}&limit=2{after}")).await.with(200);
        items.extend(page["items"].as_array().unwrap_or_else(|| panic!("{page}")).iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('@', "%40")),
            None => return items,
        }
    }
}

/// Waits until the list shows these undelivered messages of each device.
async fn until_undelivered(world: &World, user: &str, wanted: &[(&str, u64)]) -> Value {
    let path = format!("/admin/v1/devices?user={user}");
    wait_until("the list to be up to date", PATIENCE, || async {
        let list = world.admin().get(&path).await.with(200);
        let shown = |id: &str| list["items"].as_array()?.iter().find(|item| item["device"] == id).cloned();
        let is = wanted.iter().all(|(id, count)| shown(id).is_some_and(|item| item["undelivered"] == *count));
        is.then_some(list)
    })
    .await
}

pub async fn an_admin_finds_devices_by_what_waits_for_them(on: Deployment) {
    let world = on.with(SOON.0, SOON.1).start().await;
    let (alice, bob) = (world.user("Alice@console"), world.user("bob"));
    let (phone, mut bobs) = (alice.phone(0).await, bob.phone(1).await);
    let (mut web, idle) = (bob.web(0).await, bob.web(1).await);
    idle.requests(json!({ "type": "ready" })).await.expect("it needs its phone no longer");
    let chat = alice.direct(&bob).await;
    let group = alice.group("two chats").await;
    alice.invites(&group, &bob).await;
    for device in [&bobs, &web, &idle] {
        device.gets(json!({ "type": "chat", "event": "joined", "chat": group })).await;
    }
    phone.says_many(&chat, "read by all", 2).await;
    for device in [&bobs, &web, &idle] {
        device.hears(&chat, 2).await;
        device.acks(&chat, 2).await;
    }
    web.leaves().await;
    phone.says_many(&chat, "the web misses", 3).await;
    bobs.hears(&chat, 5).await;
    idle.hears(&chat, 5).await;
    bobs.acks(&chat, 5).await;
    idle.acks(&chat, 5).await;
    bobs.leaves().await;
    phone.says_many(&group, "both miss", 4).await;
    idle.hears(&group, 4).await;
    idle.acks(&group, 4).await;
    let wanted = [(bobs.id.as_str(), 4), (web.id.as_str(), 7), (idle.id.as_str(), 0)];
    let list = until_undelivered(&world, &bob.name, &wanted).await;
    assert_eq!(names(&list, "device"), [web.id.clone(), bobs.id.clone(), idle.id.clone()]);
    assert_eq!(
        (&list["total"], &list["truncated"], &list["unreachable"]),
        (&json!(3), &json!(false), &json!([]))
    );
    assert!(list["as_of"].is_u64() && list["next"].is_null(), "{list}");
    let first = &list["items"][0];
    assert_eq!(
        (&first["user"], &first["kind"], &first["online"]),
        (&json!(bob.name), &json!("sub"), &json!(false))
    );
    assert_eq!(
        (&first["chats"], &first["edge"], &first["state"]),
        (&json!(2), &Value::Null, &json!("active"))
    );
    assert!(first["oldest_ms"].as_u64().is_some_and(|waits| waits < 60_000), "{first}");
    let last = &list["items"][2];
    assert_eq!((&last["online"], &last["oldest_ms"]), (&json!(true), &Value::Null));
    assert!(last["edge"].is_string(), "{last}");

    // The other way round, by how long it waits, by name, in pages; and found by a part of a name or id, in any case.
    let admin = world.admin();
    let by = |query: &str| format!("/admin/v1/devices?user={}&{query}", bob.name);
    let of = |items: &[Value]| {
        items.iter().map(|item| item["device"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let rising = all(&admin, &by("sort=undelivered&order=asc")).await;
    assert_eq!(of(&rising), [idle.id.clone(), bobs.id.clone(), web.id.clone()]);
    let oldest = wait_until("the ages to be up to date", PATIENCE, || async {
        let oldest = all(&admin, &by("sort=oldest")).await;
        (oldest[1]["oldest_ms"].is_u64()).then_some(oldest)
    })
    .await;
    assert_eq!(of(&oldest), [web.id.clone(), bobs.id.clone(), idle.id.clone()]);
    for sort in ["last_seen", "chats", "requeues", "user"] {
        assert_eq!(all(&admin, &by(&format!("sort={sort}"))).await.len(), 3, "{sort}");
    }
    let hex = web.id.replace('-', "");
    for search in [&web.id, &web.id[..13], &hex[4..20], &web.id.to_uppercase()] {
        let found = admin.get(&format!("/admin/v1/devices?search={search}")).await.with(200);
        assert_eq!(names(&found, "device"), [web.id.clone()], "{search}");
    }
    let found = admin.get(&format!("/admin/v1/devices?search={}", alice.name.to_uppercase())).await.with(200);
    assert_eq!(names(&found, "device"), [phone.id.as_str()]);
    assert_eq!(admin.get("/admin/v1/devices?search=nobody.at.all").await.with(200)["total"], 0);

    // Users: the sums of their devices.
    let found = admin.get(&format!("/admin/v1/users?search={}", bob.name)).await.with(200);
    let user = &found["items"][0];
    assert_eq!((&user["user"], &user["devices"], &user["online"]), (&json!(bob.name), &json!(3), &json!(1)));
    assert_eq!((&user["chats"], &user["undelivered"]), (&json!(2), &json!(11)));
    assert!(user["oldest_ms"].is_u64() && user["last_seen"].is_u64(), "{user}");
    let users = all(&admin, "/admin/v1/users?sort=undelivered").await;
    assert_eq!(users[0]["user"], bob.name, "{users:?}");
    assert!(users.iter().any(|user| user["user"] == alice.name && user["devices"] == 1), "{users:?}");

    // The queues of a device, in an order and in pages.
    let queues = format!("/admin/v1/devices/{}/channels", web.id);
    let of_chats = |items: Vec<Value>| {
        items.iter().map(|item| item["chat"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let fullest = of_chats(all(&admin, &format!("{queues}?sort=undelivered")).await);
    assert_eq!(fullest, [group.clone(), chat.clone()]);
    assert_eq!(of_chats(all(&admin, &format!("{queues}?sort=oldest")).await), [chat.clone(), group.clone()]);
    let one = admin.get(&format!("{queues}?limit=1&sort=undelivered&order=asc")).await.with(200);
    assert_eq!((&one["items"][0]["chat"], &one["total"]), (&json!(chat), &json!(2)));
    let found = admin.get(&format!("{queues}?search={}", &group[..10])).await.with(200);
    assert_eq!((names(&found, "chat"), &found["total"]), (vec![group.clone()], &json!(1)));

    // A device that was ended isn't there any more.
    let ended = web.id.clone();
    let termination = bob.ends(&ended).await;
    world.terminated(&world.admin(), &termination).await;
    wait_until("the list to be without it", PATIENCE, || async {
        let list = world.admin().get(&by("")).await.with(200);
        (!names(&list, "device").contains(&ended)).then_some(())
    })
    .await;
}

pub async fn the_overview_shows_every_edge(on: Deployment) {
    let world = on.start().await;
    let Pair { phone, chat, .. } = world.pair_of_which_bob_is_away().await;
    phone.says_many(&chat, "said", 20).await;
    let edges = world.edges.len();
    let admin = world.admin();
    let overview = wait_until("all edges and their rates to be shown", PATIENCE, || async {
        let overview = admin.get("/admin/v1/overview").await.with(200);
        let all = overview["edges"].as_array()?.len() == edges;
        let sent = overview["cluster"]["sends"].as_u64()? >= 20;
        let depth: u64 =
            overview["broker"].as_array()?.iter().filter_map(|server| server["depth"].as_u64()).sum();
        let samples = overview["history"]["samples"].as_array()?;
        // Her phone got what it sent: the time that took is among them.
        let sampled =
            ["sends", "p99_ms"].iter().all(|what| samples.iter().any(|it| it[what].as_f64() > Some(0.0)));
        (all && sent && depth >= 20 && sampled).then_some(overview)
    })
    .await;
    let cluster = &overview["cluster"];
    assert_eq!(
        (&cluster["edges"], &cluster["mains"], &cluster["outbox"]),
        (&json!(edges), &json!(1), &json!(0))
    );
    let sum = |field: &str| {
        overview["edges"].as_array().unwrap().iter().map(|edge| edge[field].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!(cluster["sends"].as_u64(), Some(sum("sends")));
    assert!(
        overview["edges"].as_array().unwrap().iter().any(|edge| edge["edge"] == overview["edge"]),
        "{overview}"
    );
    let (redis, history) = (&overview["redis"], &overview["history"]);
    assert_eq!((&history["scope"], &history["every_ms"]), (&json!("cluster"), &json!(5000)));
    assert_eq!((&redis["problem"], &overview["store"]), (&Value::Null, &json!(true)));
    match world.stack {
        Some(_) => {
            assert_eq!((&redis["role"], &redis["aof"]), (&json!("redis"), &json!("ok")));
            assert!(
                redis["used_memory"].as_u64() > Some(100_000) && redis["ping_ms"].as_f64() > Some(0.0),
                "{redis}"
            );
            assert!(redis["clients"].as_u64() >= Some(2) && redis["max_memory"].is_u64(), "{redis}");
            assert_eq!(overview["broker"].as_array().unwrap().len(), 3, "{overview}");
        }
        None => {
            assert_eq!((&redis["role"], &redis["used_memory"]), (&json!("embedded"), &Value::Null));
            let server = &overview["broker"][0];
            assert_eq!((&server["role"], &server["queues"]), (&json!("embedded"), &json!(2)), "{overview}");
        }
    }
}

pub async fn only_admins_see_the_console(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let phone = alice.registers("main").await;
    for (method, path) in CALLS {
        let body = (*method == "POST").then(|| "{}".to_owned());
        let refused =
            async |api: Api, status, code| api.call(method, path, body.clone()).await.problem(status, code);
        refused(world.stranger(), 401, "unauthorized").await;
        refused(world.api(0, "not.a.token"), 401, "unauthorized").await;
        refused(world.api(0, &user_token(&alice.name)), 403, "forbidden").await;
        refused(phone.api(), 403, "forbidden").await;
    }
    // Nobody who isn't an admin gets into the audit log.
    assert_eq!(world.admin().get("/admin/v1/audit").await.with(200)["items"], json!([]));
}

pub async fn what_makes_no_sense_is_refused_on_the_console(on: Deployment) {
    let world = on.start().await;
    let admin = world.admin();
    let lists = ["/admin/v1/users", "/admin/v1/devices", "/admin/v1/channels/orphans"];
    for list in lists {
        for (query, code) in [
            ("sort=colour", "bad_field"),
            ("order=up", "bad_field"),
            ("limit=0", "bad_range"),
            ("limit=1001", "bad_range"),
            ("limit=99999999999999999999", "bad_field"),
            ("limit=-1", "bad_field"),
            ("after=nowhere", "bad_field"),
            ("after=undelivered.asc.1.x.", "bad_field"),
        ] {
            admin.get(&format!("{list}?{query}")).await.problem(400, code);
        }
        admin.get(&format!("{list}?search={}", "x".repeat(129))).await.problem(400, "bad_range");
    }
    admin.get("/admin/v1/devices?user=a%20b").await.problem(400, "bad_field");
    for (query, code) in [
        ("who=a%20b", "bad_field"),
        ("action=think", "bad_field"),
        ("since=yesterday", "bad_field"),
        ("since=9007199254740992", "bad_range"),
        ("after=x", "bad_field"),
        ("format=xml", "bad_field"),
        ("limit=0", "bad_range"),
    ] {
        admin.get(&format!("/admin/v1/audit?{query}")).await.problem(400, code);
    }
    for (query, code) in
        [("dry_run=maybe", "bad_field"), ("foreign=2", "bad_field"), ("limit=1001", "bad_range")]
    {
        admin.post(&format!("/admin/v1/channels/sweep?{query}"), json!({})).await.problem(400, code);
    }
    admin.post("/admin/v1/channels/sweep", json!({ "dry_run": true })).await.problem(400, "bad_field");
}

pub async fn a_tidy_server_has_nothing_to_sweep(on: Deployment) {
    let world = on.with(SOON.0, SOON.1).start().await;
    let Pair { phone, mut bobs, chat, .. } = world.pair_of_which_bob_is_away().await;
    phone.says_many(&chat, "waiting", 3).await;
    let admin = world.admin();
    let found = admin.get("/admin/v1/channels/orphans").await.with(200);
    assert_eq!((&found["items"], &found["total"]), (&json!([]), &json!(0)), "{found}");
    let swept = admin.post("/admin/v1/channels/sweep", json!({})).await.with(200);
    assert_eq!(
        (&swept["items"], &swept["removed"], &swept["left"]),
        (&json!([]), &json!(0), &json!(0)),
        "{swept}"
    );
    bobs.connects(0).await;
    bobs.hears(&chat, 3).await;
}
