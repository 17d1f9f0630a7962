//! A web page becomes a web session: it shows a code, and the phone approves or refuses.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::client::{Answer, Api, PATIENCE, raw_http, soon, user_token};
use super::device::Device;
use super::user::User;
use super::world::Pair;
use super::{Deployment, World};
use crate::support::wait_until;

/// A page that has requested a link.
pub(crate) struct Page {
    edge: String,
    pub(super) code: String,
    link: String,
    pub(super) secret: String,
}

fn wish() -> Value {
    json!({ "name": "Firefox on a laptop", "platform": "web" })
}

pub(crate) fn stranger(world: &World, edge: usize) -> Api {
    Api { token: None, ..world.api(edge, "") }
}

impl Page {
    pub(crate) async fn opens(api: &Api) -> Page {
        let opened = api.post("/v1/links", wish()).await.with(201);
        let text = |name: &str| opened[name].as_str().unwrap_or_else(|| panic!("{opened}")).to_owned();
        Page { edge: api.edge.clone(), code: text("code"), link: text("link"), secret: text("secret") }
    }

    /// Polls the state of the link, with any secret, and waits this many seconds.
    pub(super) async fn polls(&self, secret: &str, wait: u64) -> Answer {
        let Page { edge, link, .. } = self;
        let request = format!(
            "GET /v1/links/{link}?wait={wait} HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\nX-Link-Secret: {secret}\r\n\r\n"
        );
        raw_http(edge, request.as_bytes()).await.expect("an answer")
    }

    pub(crate) async fn learns(&self, wait: u64) -> Value {
        self.polls(&self.secret, wait).await.with(200)
    }

    /// Waits until the link has this state, and returns it.
    async fn becomes(&self, state: &str) -> Value {
        wait_until(state, PATIENCE, || async {
            let learnt = self.learns(2).await;
            (learnt["state"] == state).then_some(learnt)
        })
        .await
    }

    fn path(&self) -> String {
        format!("/v1/links/{}", self.code)
    }

    pub(crate) async fn decided(&self, by: &Api, body: Value) -> Answer {
        by.post(&format!("{}/approve", self.path()), body).await
    }
}

pub(crate) fn yes() -> Value {
    json!({ "approve": true })
}

/// Returns the device that a page became; its phone must be connected.
async fn linked(user: &User, page: &Page, phone: &Device, body: Value, edge: usize) -> Device {
    page.decided(&phone.api(), body).await.with(200);
    let learnt = page.learns(25).await;
    assert_eq!(learnt["state"], "approved", "{learnt}");
    let mut web = user.device(&learnt);
    web.connects(edge).await;
    web
}

pub async fn a_page_becomes_a_web_session(on: Deployment) {
    let world = on.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    phone.says_many(&chat, "before", 5).await;
    phone.hears(&chat, 5).await;

    // On another edge than the phone's.
    let opened = stranger(&world, 1).post("/v1/links", wish()).await.with(201);
    assert_eq!(opened["expires_in"], 120, "{opened}");
    let code = opened["code"].as_str().unwrap();
    assert!(code.len() == 7 && code.as_bytes()[4] == b'-', "{code}");
    assert_eq!(opened["qr"]["size"], 25);
    assert!(opened["qr"]["path"].as_str().unwrap().starts_with("M0 0h7v1h-7z"), "{opened}");
    let page = Page::opens(&stranger(&world, 1)).await;
    assert_eq!(page.learns(0).await, json!({ "state": "pending" }));

    // The page waits while the phone looks, in its own spelling, and says yes.
    let careless = page.code.to_lowercase().replace('-', "").replace('0', "o").replace('1', "l");
    let shown = phone.api().get(&format!("/v1/links/{careless}")).await.with(200);
    let left = shown["expires_in"].as_u64().unwrap();
    assert!((1..=120).contains(&left), "{shown}");
    let expected =
        json!({ "code": page.code, "name": "Firefox on a laptop", "platform": "web", "expires_in": left });
    assert_eq!(shown, expected);
    let approve = async {
        let path = format!("/v1/links/{careless}/approve");
        phone.api().post(&path, json!({ "approve": true, "history": null })).await.with(200)
    };
    let (learnt, approved) = tokio::join!(page.learns(25), approve);
    assert_eq!(learnt["state"], "approved", "{learnt}");
    assert_eq!(learnt["device"]["id"], approved["device"]["id"]);
    assert_eq!(
        (&approved["device"]["kind"], &approved["device"]["name"]),
        (&json!("sub"), &json!("Firefox on a laptop"))
    );
    phone.gets(json!({ "type": "device", "event": "linked", "device": approved["device"]["id"] })).await;

    // It is a web session like any other: the past from the phone, and both ways live.
    let mut web = alice.device(&learnt);
    web.connects(1).await;
    let (past, more) = web.borrows(&chat, None, 100).await.expect("a page");
    assert_eq!((past.len(), more), (5, false));
    bobs.says(&chat, "live").await;
    web.hears(&chat, 6).await;
    web.says(&chat, "and back").await;
    bobs.hears(&chat, 7).await;
    // An answer that got lost is given again, with a token of the same device.
    let again = page.learns(25).await;
    assert_eq!(again["device"]["id"], json!(web.id));
    let listed = Api::new(&page.edge, again["token"].as_str().unwrap()).get("/v1/devices").await.with(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.metric("keepstep_links_total{state=\"approved\"}").await, 1.0);
    // Ended, it isn't there for the page either.
    alice.ends(&web.id).await;
    assert_eq!(page.learns(0).await, json!({ "state": "expired" }));
}

pub async fn a_link_is_refused_or_runs_out(on: Deployment) {
    let world = on.with("KEEPSTEP_LINK_LIFETIME", "1500ms").start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let page = Page::opens(&stranger(&world, 1)).await;
    let api = phone.api();
    let refuse = page.decided(&api, json!({ "approve": false }));
    let (learnt, answer) = tokio::join!(page.learns(25), refuse);
    assert_eq!(answer.with(200), json!({}));
    assert_eq!(learnt, json!({ "state": "refused" }));
    // The same again is the same; anything else comes too late.
    assert_eq!(page.decided(&phone.api(), json!({ "approve": false })).await.with(200), json!({}));
    page.decided(&phone.api(), yes()).await.problem(409, "conflict");
    phone.api().get(&page.path()).await.problem(404, "not_found");

    let late = Page::opens(&stranger(&world, 0)).await;
    // It waits, and is told when its time is over: the state doesn't change while somebody looks.
    late.becomes("expired").await;
    phone.api().get(&late.path()).await.problem(404, "not_found");
    late.decided(&phone.api(), yes()).await.problem(404, "not_found");
    assert_eq!(late.learns(25).await, json!({ "state": "expired" }));
    assert_eq!(page.learns(0).await, json!({ "state": "refused" }));
    let devices = alice.api(0).get("/v1/devices").await.with(200);
    assert_eq!(devices["items"].as_array().unwrap().len(), 1, "nothing came of it: {devices}");
}

pub async fn a_link_is_used_once(on: Deployment) {
    let world = on.with("KEEPSTEP_LINK_TRIES_PER_MINUTE", "1000").start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(1).await);
    for round in 0..5 {
        let page = Page::opens(&stranger(&world, round)).await;
        // Two phones at the same time, each several times: one user has it, and for them it is one device.
        let apis: Vec<Api> = (0..8)
            .map(|n| {
                let by = if n % 2 == 0 { &phone } else { &bobs };
                world.api(n / 2, &by.token)
            })
            .collect();
        let asked: Vec<_> = apis.iter().map(|api| page.decided(api, yes())).collect();
        let answers = join_all(asked).await;
        let learnt = page.learns(25).await;
        assert_eq!(learnt["state"], "approved", "{learnt}");
        let winners = usize::from(answers[0].status != 200);
        for (n, answer) in answers.into_iter().enumerate() {
            if n % 2 == winners {
                assert_eq!(answer.with(200)["device"]["id"], learnt["device"]["id"]);
            } else {
                answer.problem(404, "not_found");
            }
        }
        let winner = if winners == 0 { &alice } else { &bob };
        let ended = winner.ends(learnt["device"]["id"].as_str().unwrap()).await;
        world.terminated(&winner.api(0), &ended).await;
    }
    // Yes and no of one user at the same time: one of them counts.
    let page = Page::opens(&stranger(&world, 0)).await;
    let api = phone.api();
    let (one, other) =
        tokio::join!(page.decided(&api, yes()), page.decided(&api, json!({ "approve": false })));
    let (counts, late) = if one.status == 200 { (one, other) } else { (other, one) };
    let counts = counts.with(200);
    late.problem(409, "conflict");
    let state = page.learns(25).await["state"].clone();
    assert_eq!(state, if counts.get("device").is_some() { "approved" } else { "refused" });
}

pub async fn a_sixth_web_session_waits_for_room(on: Deployment) {
    let world = on.start().await;
    let alice = world.user("alice");
    let phone = alice.phone(0).await;
    let mut webs = Vec::new();
    for _ in 0..5 {
        webs.push(alice.registers("sub").await);
    }
    let page = Page::opens(&stranger(&world, 1)).await;
    page.decided(&phone.api(), yes()).await.problem(409, "limit_reached");
    // Nothing is lost by that: the phone ends one, and says yes again.
    assert_eq!(page.learns(0).await, json!({ "state": "pending" }));
    phone.api().get(&page.path()).await.with(200);
    let ended = alice.ends(&webs[2].id).await;
    world.terminated(&alice.api(0), &ended).await;
    linked(&alice, &page, &phone, yes(), 1).await;
}

pub async fn only_the_phone_decides_and_only_the_page_learns(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    let web = alice.web(1).await;
    let page = Page::opens(&stranger(&world, 0)).await;
    for by in [web.api(), alice.api(0)] {
        by.get(&page.path()).await.problem(403, "forbidden");
        page.decided(&by, yes()).await.problem(403, "forbidden");
    }
    page.decided(&stranger(&world, 0), yes()).await.problem(401, "unauthorized");
    stranger(&world, 0).get(&page.path()).await.problem(401, "unauthorized");
    let mut other = page.secret.clone();
    other.replace_range(..1, if other.starts_with('0') { "1" } else { "0" });
    for wrong in ["", "x", &other, &page.secret[1..], &page.code] {
        page.polls(wrong, 25).await.problem(404, "not_found");
    }
    let nobody = Page { link: uuid::Uuid::new_v4().to_string(), ..Page::opens(&stranger(&world, 1)).await };
    nobody.polls(&nobody.secret, 25).await.problem(404, "not_found");
    stranger(&world, 0).get(&format!("/v1/links/{}", page.link)).await.problem(404, "not_found");

    // A page that says that it is Alice's can be decided by Alice alone, whose phone is asked by itself.
    let bound = Page::opens(&alice.api(1)).await;
    let request = json!({ "type": "link_request", "code": bound.code, "name": "Firefox on a laptop", "platform": "web" });
    assert_eq!(phone.gets(json!({ "type": "link_request" })).await, request);
    bobs.api().get(&bound.path()).await.problem(404, "not_found");
    bound.decided(&bobs.api(), yes()).await.problem(404, "not_found");
    bound.decided(&bobs.api(), json!({ "approve": false })).await.problem(404, "not_found");
    assert_eq!(bound.learns(0).await, json!({ "state": "pending" }));
    linked(&alice, &bound, &phone, yes(), 0).await;
    // Nobody else's phone was asked, nor Alice's web session.
    for device in [&bobs, &web] {
        device.requests(json!({ "type": "ping" })).await.expect("it is there");
        assert_eq!(device.memory().take(&json!({ "type": "link_request" })), None);
    }
    // A token that isn't good is no token at all.
    for token in [web.token.as_str(), "x.y.z", &user_token("alice")[1..]] {
        world.api(0, token).post("/v1/links", wish()).await.problem(401, "unauthorized");
    }
    // The first page waits all the while.
    linked(&alice, &page, &phone, yes(), 1).await;
}

pub async fn a_link_gives_as_much_of_the_past_as_was_allowed(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "past", 10).await;
    phone.hears(&chat, 10).await;
    let link = async |history: Value| {
        let page = Page::opens(&stranger(&world, 1)).await;
        linked(&alice, &page, &phone, json!({ "approve": true, "history": history }), 1).await
    };
    let seqs = |page: &[Value]| page.iter().map(|one| one["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    let borrows = async |web: &Device, before: Option<u64>, limit: u64| {
        let (page, more) = web.borrows(&chat, before, limit).await.expect("a page");
        (seqs(&page), more)
    };

    let none = link(json!(0)).await;
    assert_eq!(borrows(&none, None, 100).await, (vec![], false));
    assert_eq!(borrows(&none, Some(5), 100).await, (vec![], false));

    let three = link(json!(3)).await;
    assert_eq!(borrows(&three, None, 100).await, (vec![8, 9, 10], false));
    assert_eq!(borrows(&three, None, 2).await, (vec![9, 10], true));
    assert_eq!(borrows(&three, Some(9), 2).await, (vec![8], false));
    assert_eq!(borrows(&three, Some(8), 100).await, (vec![], false));
    assert_eq!(borrows(&three, Some(3), 1).await, (vec![], false));
    // A phone that gives more than it was asked for is cut.
    phone.answers(super::memory::Phone::With(|_, honest| {
        let mut all = honest.clone();
        let mut low = honest["messages"][0].clone();
        low["seq"] = (low["seq"].as_u64().unwrap() - 1).into();
        all["messages"] = json!([low]);
        all["more"] = true.into();
        vec![all]
    }));
    assert_eq!(borrows(&three, None, 3).await, (vec![], false));
    phone.answers(super::memory::Phone::Honestly);
    // What is live is another thing, also when it is asked for again.
    phone.says_many(&chat, "live", 2).await;
    three.hears(&chat, 12).await;
    three.acks(&chat, 12).await;
    assert_eq!(borrows(&three, Some(13), 100).await, (vec![8, 9, 10, 11, 12], false));
    let held = three.api().get(&format!("/v1/chats/{chat}/messages")).await.with(200);
    assert_eq!(seqs(held["items"].as_array().unwrap()), [11, 12]);
    // It holds for the device's life, on every connection and edge, and is told with it.
    let mut three = three;
    three.reconnects(0).await;
    assert_eq!(borrows(&three, None, 100).await, (vec![8, 9, 10], false));
    let devices = alice.api(0).get("/v1/devices").await.with(200);
    let told = |id: &str| {
        let items = devices["items"].as_array().unwrap();
        items.iter().find(|device| device["id"] == id).unwrap().get("history").cloned()
    };
    assert_eq!((told(&none.id), told(&three.id), told(&phone.id)), (Some(json!(0)), Some(json!(3)), None));

    let all = link(Value::Null).await;
    assert_eq!(borrows(&all, None, 100).await, ((1..=12).collect(), false));
    let plenty = link(json!(1_000_000)).await;
    assert_eq!(borrows(&plenty, None, 100).await, ((1..=12).collect(), false));
}

pub async fn links_are_asked_for_within_bounds(on: Deployment) {
    let world = on
        .with("KEEPSTEP_LINKS_PER_MINUTE", "12")
        .with("KEEPSTEP_LINKS_WAITING", "24")
        .with("KEEPSTEP_LINK_TRIES_PER_MINUTE", "4")
        .start()
        .await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (phone, bobs) = (alice.phone(0).await, bob.phone(0).await);
    // Bad ones aren't counted, and nothing comes of them.
    for (body, status, code) in [
        (json!({}), 400, "bad_field"),
        (json!({ "name": "n" }), 400, "bad_field"),
        (json!({ "name": "n", "platform": "p", "kind": "sub" }), 400, "bad_field"),
        (json!({ "name": "", "platform": "p" }), 400, "bad_field"),
        (json!({ "name": "a\u{7}b", "platform": "p" }), 400, "bad_field"),
        (json!({ "name": "x".repeat(129), "platform": "p" }), 413, "too_large"),
    ] {
        stranger(&world, 0).post("/v1/links", body).await.problem(status, code);
    }
    stranger(&world, 0).call("POST", "/v1/links", Some("{".into())).await.problem(400, "bad_json");
    let mut pages = Vec::new();
    for n in 0..3 {
        pages.push(Page::opens(&stranger(&world, n)).await);
    }
    // Three of 24 places, an eighth of what is free, are for one address.
    stranger(&world, 1).post("/v1/links", wish()).await.problem(429, "too_many_requests");
    // One that is decided makes room.
    let page = &pages[0];
    for (body, code) in [
        (json!({}), "bad_field"),
        (json!({ "approve": "yes" }), "bad_field"),
        (json!({ "approve": true, "history": -1 }), "bad_range|bad_field"),
        (json!({ "approve": true, "history": 1.5 }), "bad_field"),
        (json!({ "approve": true, "more": 1 }), "bad_field"),
        (json!({ "approve": false, "history": 1 }), "bad_field"),
    ] {
        let answer = page.decided(&phone.api(), body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
        assert!(code.contains(answer.body["code"].as_str().unwrap()), "{body}: {}", answer.text);
    }
    for wait in ["26", "x", "-1"] {
        let path = format!("/v1/links/{}?wait={wait}", page.link);
        assert_eq!(stranger(&world, 0).get(&path).await.status, 400, "{wait}");
    }
    assert_eq!(page.learns(0).await, json!({ "state": "pending" }));
    page.decided(&phone.api(), json!({ "approve": false })).await.with(200);
    Page::opens(&stranger(&world, 1)).await;
    stranger(&world, 0).post("/v1/links", wish()).await.problem(429, "too_many_requests");
    // Guessing is slow; for whoever doesn't guess nothing changes.
    for guess in ["000000", "nothing", "%ff%fe"] {
        phone.api().get(&format!("/v1/links/{guess}")).await.problem(404, "not_found");
    }
    phone.api().get(&pages[1].path()).await.problem(429, "too_many_requests");
    pages[1].decided(&phone.api(), yes()).await.problem(429, "too_many_requests");
    bobs.api().get(&pages[1].path()).await.with(200);
    // So is asking, from one address.
    wait_until("the limit of an address", PATIENCE, || async {
        let answer = stranger(&world, 0).post("/v1/links", wish()).await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        detail.contains("per minute").then_some(())
    })
    .await;
}

pub async fn a_stop_sends_waiting_pages_elsewhere(on: Deployment) {
    let mut world = on.start().await;
    let page = Page::opens(&stranger(&world, 0)).await;
    let begun = tokio::time::Instant::now();
    // A page may wait four times at once (one that was reloaded leaves the old one for a moment): when a fifth has been
    // refused, four wait.
    let mut asked: FuturesUnordered<_> = (0..5).map(|_| page.polls(&page.secret, 25)).collect();
    let first = soon("a fifth to be refused", asked.next()).await.expect("there are five");
    first.problem(429, "too_many_requests");
    let edge = &mut world.edges[0];
    edge.process().signal(Signal::SIGTERM);
    let learnt: Vec<_> = soon("the page to be let go", asked.map(|answer| answer.with(200)).collect()).await;
    assert_eq!(learnt, vec![json!({ "state": "pending" }); 4]);
    let status = edge.process().wait(Duration::from_secs(10)).await.expect("it ends within 10 s");
    assert!(status.success() && begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
