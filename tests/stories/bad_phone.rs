//! A phone answers wrongly, is silent or disconnects during a web session's bootstrap; a web session asks too much.

use std::sync::Arc;

use serde_json::{Value, json};

use super::device::Device;
use super::memory::Phone;
use super::world::Setup;
use super::{Deployment, World};

/// Returns a phone with 20 messages on one edge, and a web session without them on the other.
async fn twenty(setup: Setup) -> (World, Device, Device, String) {
    let world = setup.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let phone = alice.phone(0).await;
    let chat = alice.direct(&bob).await;
    phone.says_many(&chat, "said", 20).await;
    phone.hears(&chat, 20).await;
    let web = alice.web(1).await;
    (world, phone, web, chat)
}

fn patient(on: Deployment) -> Setup {
    on.with("KEEPSTEP_BAD_FRAMES_IN_A_ROW", "100")
}

pub async fn a_phone_that_lies_is_found_out(on: Deployment) {
    let (_world, phone, web, chat) = twenty(patient(on)).await;
    // Each makes a bad answer of the honest one, which has the messages 6 to 15.
    type Lie = fn(&mut Value);
    let lies: [(&str, Lie); 11] = [
        ("another chat", |page| page["messages"][3]["chat"] = uuid::Uuid::new_v4().to_string().into()),
        ("one too many", |page| {
            let mut one = page["messages"][0].clone();
            one["seq"] = 5.into();
            page["messages"].as_array_mut().unwrap().insert(0, one);
        }),
        ("not sorted", |page| page["messages"].as_array_mut().unwrap().swap(2, 3)),
        ("descending", |page| page["messages"].as_array_mut().unwrap().reverse()),
        ("one twice", |page| page["messages"][4] = page["messages"][5].clone()),
        ("from above", |page| page["messages"][9]["seq"] = 16.into()),
        ("from far above", |page| page["messages"][9]["seq"] = 4_000_000_000_u64.into()),
        ("seq 0", |page| page["messages"][0]["seq"] = 0.into()),
        ("no message at all", |page| page["messages"][1] = json!({ "type": "read", "chat": "x", "seq": 7 })),
        ("not even an object", |page| page["messages"][1] = 7.into()),
        ("nothing, with more behind it", |page| {
            page["messages"] = json!([]);
            page["more"] = true.into();
        }),
    ];
    phone.answers(Phone::Never);
    for (what, lie) in lies {
        let asked = web.asks(json!({ "type": "history", "chat": chat, "before": 16, "limit": 10 }));
        let request = phone.gets(json!({ "type": "history_request", "chat": chat, "before": 16 })).await;
        let mut page = honest(&phone, &request, &chat, 6..=15);
        lie(&mut page);
        let told = phone.requests(page).await.expect_err(what);
        assert!(matches!(told["code"].as_str(), Some("bad_field" | "bad_range")), "{what}: {told}");
        let error = web.reply(asked).await.expect_err(what);
        assert_eq!((&error["code"], &error["retry"]), (&json!("bad_main"), &json!(true)), "{what}");
    }
    // Nor is one message that is larger than any can be, with whatever the phone has put into it: it wouldn't get to the sub.
    let asked = web.asks(json!({ "type": "history", "chat": chat, "before": 16, "limit": 10 }));
    let request = phone.gets(json!({ "type": "history_request", "chat": chat, "before": 16 })).await;
    let mut page = honest(&phone, &request, &chat, 15..=15);
    page["messages"][0]["own"] = "x".repeat(1_900_000).into();
    let told = phone.requests(page).await.expect_err("1.9 MB");
    assert_eq!(told["code"], "too_large", "{told}");
    let error = web.reply(asked).await.expect_err("1.9 MB");
    assert_eq!((&error["code"], &error["retry"]), (&json!("bad_main"), &json!(true)), "1.9 MB");
    // None of it got through, and the honest page does.
    phone.answers(Phone::Honestly);
    let (page, more) = web.borrows(&chat, Some(16), 10).await.expect("an honest page");
    assert_eq!((page.len(), more), (10, true));
    assert_eq!(web.memory().inbox, Vec::<Value>::new());
}

fn honest(phone: &Device, request: &Value, chat: &str, seqs: std::ops::RangeInclusive<u64>) -> Value {
    let memory = phone.memory();
    let messages: Vec<Value> =
        memory.chat(chat).unwrap().messages.range(seqs).map(|(_, one)| one.clone()).collect();
    json!({ "type": "history_page", "request": request["request"], "messages": messages, "more": true })
}

pub async fn a_phone_that_answers_twice_is_told_so(on: Deployment) {
    let (_world, phone, web, chat) = twenty(patient(on)).await;
    phone.answers(Phone::Never);
    let asked = web.asks(json!({ "type": "history", "chat": chat, "before": 16, "limit": 10 }));
    let request = phone.gets(json!({ "type": "history_request", "chat": chat })).await;
    let page = honest(&phone, &request, &chat, 6..=15);
    phone.requests(page.clone()).await.expect("the first answer is taken");
    // The same again, an error after it, and an answer to what nobody asked. A second reply would be a fault of the web's.
    phone.requests(page).await.expect_err("the second answer is too many");
    let after = json!({ "type": "history_error", "request": request["request"], "code": "unavailable" });
    phone.requests(after).await.expect_err("an error after the answer");
    let mut stray = honest(&phone, &request, &chat, 6..=15);
    stray["request"] = "no-such-request".into();
    phone.requests(stray).await.expect_err("nobody asked");
    assert_eq!(web.reply(asked).await.expect("a page")["messages"].as_array().unwrap().len(), 10);

    // An error is an answer, too. Words that a sub knows reach it as they are.
    for (said, told) in [
        ("main_busy", "main_busy"),
        ("not_found", "not_found"),
        ("unavailable", "unavailable"),
        ("out of paper", "bad_main"),
    ] {
        let asked = web.asks(json!({ "type": "history", "chat": chat, "before": 16, "limit": 10 }));
        let request = phone.gets(json!({ "type": "history_request", "chat": chat })).await;
        let sorry = json!({ "type": "history_error", "request": request["request"], "code": said });
        phone.requests(sorry).await.expect("an error is taken");
        assert_eq!(web.reply(asked).await.expect_err("no page")["code"], told);
    }
    // Without an id a refused answer comes back as an `error` frame.
    phone.puts(json!({ "type": "history_page", "request": "none", "messages": [], "more": false }));
    phone.gets(json!({ "type": "error", "frame": "history_page" })).await;
}

pub async fn a_phone_that_is_silent_times_out(on: Deployment) {
    let (_world, phone, web, chat) = twenty(patient(on).with("KEEPSTEP_HISTORY_TIMEOUT", "700ms")).await;
    phone.answers(Phone::Never);
    let asked = web.asks(json!({ "type": "history", "chat": chat, "limit": 10 }));
    let request = phone.gets(json!({ "type": "history_request", "chat": chat })).await;
    // Meanwhile another page of the same chat isn't asked for.
    let error = web.borrows(&chat, Some(5), 3).await.expect_err("one at a time");
    assert_eq!(error["code"], "main_busy");
    let error = web.reply(asked).await.expect_err("the phone is silent");
    assert_eq!((&error["code"], &error["retry"]), (&json!("main_timeout"), &json!(true)));
    // Too late is no answer: the web hears nothing more (a second reply would be a fault of its). The phone is told so, or
    // was at most a moment too late; a second time it is told in any case.
    let _ = phone.requests(honest(&phone, &request, &chat, 11..=20)).await;
    phone.requests(honest(&phone, &request, &chat, 11..=20)).await.expect_err("its time is over");
    phone.answers(Phone::Honestly);
    let (page, more) = web.borrows(&chat, None, 10).await.expect("it goes on from there");
    assert_eq!((page.len(), more), (10, true));
}

pub async fn a_phone_that_goes_midway_ends_the_request(on: Deployment) {
    let (_world, mut phone, web, chat) = twenty(patient(on)).await;
    web.requests(json!({ "type": "ready" })).await.expect("ready");
    phone.answers(Phone::Never);
    let asked = web.asks(json!({ "type": "history", "chat": chat, "limit": 10 }));
    phone.gets(json!({ "type": "history_request", "chat": chat })).await;
    phone.leaves().await;
    let error = web.reply(asked).await.expect_err("the phone has gone");
    assert_eq!((&error["code"], &error["retry"]), (&json!("main_offline"), &json!(true)));
    assert!(error["last_seen"].is_u64(), "{error}");

    phone.answers(Phone::Honestly);
    phone.connects(1).await;
    let (page, _) = web.borrows(&chat, None, 10).await.expect("it goes on from there");
    assert_eq!(page.len(), 10);
}

pub async fn a_sub_that_asks_too_much_is_refused(on: Deployment) {
    let (world, phone, web, chat) = twenty(patient(on)).await;
    let history = |before: Value, limit: Value| json!({ "type": "history", "chat": chat, "before": before, "limit": limit });
    for limit in [0_u64, 101, 1_000_000_000, u64::MAX] {
        web.is_refused(history(10.into(), limit.into()), "bad_range").await;
    }
    // Above the boundary it isn't the phone's to tell.
    for before in [0_u64, 1_000, 1 << 53] {
        web.is_refused(history(before.into(), 10.into()), "bad_range").await;
    }
    web.is_refused(history((-1).into(), 10.into()), "bad_range").await;
    web.is_refused(history(10.into(), 1.5.into()), "bad_field").await;
    let strange = uuid::Uuid::new_v4().to_string();
    web.is_refused(json!({ "type": "history", "chat": strange, "limit": 10 }), "not_found").await;

    // A chat of others is like no chat.
    let (carol, dan) = (world.user("carol"), world.user("dan"));
    let theirs = carol.direct(&dan).await;
    web.is_refused(json!({ "type": "history", "chat": theirs, "limit": 10 }), "not_found").await;

    // A phone has its own past; a sub is no phone.
    phone.is_refused(history(10.into(), 10.into()), "bad_frame").await;
    phone.is_refused(json!({ "type": "ready" }), "bad_frame").await;
    phone.answers(Phone::Never);
    let asked = web.asks(history(16.into(), 10.into()));
    let request = phone.gets(json!({ "type": "history_request", "chat": chat })).await;
    let page = Arc::new(honest(&phone, &request, &chat, 6..=15));
    web.requests((*page).clone()).await.expect_err("a sub is no phone");
    web.requests(json!({ "type": "history_error", "request": request["request"], "code": "unavailable" }))
        .await
        .expect_err("a sub is no phone");
    phone.requests((*page).clone()).await.expect("the phone's own answer still counts");
    assert_eq!(web.reply(asked).await.expect("a page")["messages"].as_array().unwrap().len(), 10);
}
