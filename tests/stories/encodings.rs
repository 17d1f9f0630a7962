//! The same text in any JSON encoding: escapes don't count against a text's length.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::Deployment;
use super::client::{Socket, raw_http};
use super::world::Pair;

/// Encodes JSON like the most cautious encoder: every character of every string escaped, and spaces between.
fn cautious(value: &Value) -> String {
    let string = |text: &str| {
        let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\"", units.collect::<String>())
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => {
            format!("[ {} ]", items.iter().map(cautious).collect::<Vec<_>>().join(" , "))
        }
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| format!("{} : {}", string(key), cautious(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(" , "))
        }
        other => other.to_string(),
    }
}

pub async fn legal_text_gets_through_whatever_encoder_wrote_it(on: Deployment) {
    let world = on.start().await;
    let Pair { alice, phone: _phone, bobs, chat, .. } = world.pair().await;
    let device = alice.registers("sub").await;
    let mut socket = Socket::open(&world.addresses()[0], &device.token).await;
    socket.frame_of("welcome").await;
    let texts = ["x".repeat(65_536), "я".repeat(32_768), "\u{1}".repeat(65_536), "😀".repeat(16_384)];
    let message = |content: &str| {
        json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": content, "memo": "я".repeat(512),
            "meta": { "m": "m".repeat(4_000) } })
    };
    for (at, text) in texts.iter().enumerate() {
        let mut frame = message(text);
        (frame["type"], frame["id"], frame["chat"]) = ("send".into(), at.into(), chat.as_str().into());
        let frame = cautious(&frame);
        assert!(frame.len() > 390_000 || text.len() > text.chars().count(), "{}", frame.len());
        socket.send_message(Message::text(frame)).await.expect("a frame");
        let reply = socket.frame_of("reply").await;
        assert_eq!(reply["ok"]["seq"], 2 * at + 1, "{reply}");
        // By HTTP the same.
        let body = cautious(&message(text));
        let (edge, token) = (&world.addresses()[0], alice.api(0).token.unwrap_or_default());
        let request = format!(
            "POST /v1/chats/{chat}/messages HTTP/1.1\r\nHost: {edge}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw_http(edge, request.as_bytes()).await.expect("an answer");
        assert_eq!(answer.ok()["seq"], 2 * at + 2);
    }
    bobs.hears(&chat, 8).await;
    let memory = bobs.memory();
    let heard = memory.chat(&chat).unwrap().contents(1..=8);
    assert!(heard.iter().zip(texts.iter().flat_map(|text| [text, text])).all(|(heard, text)| heard == text));
}

pub async fn an_applications_own_json_counts_in_its_shortest_form(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (device, bobs) = (alice.registers("main").await, bob.registers("main").await);
    let chat = alice.direct(&bob).await;
    let mut socket = Socket::open(&world.addresses()[0], &device.token).await;
    socket.frame_of("welcome").await;
    let mut bobs = Socket::open(&world.addresses()[0], &bobs.token).await;
    // 65,536 bytes as JSON, and one more.
    for (id, content, ok) in [(1, "ж".repeat(32_764), true), (2, "ж".repeat(32_765), false)] {
        let own = json!({ "a": content });
        let meta = json!({ "m": "ж".repeat(2_044) });
        let frame = json!({ "type": "send", "id": id, "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "x.own",
            "content": own, "meta": meta });
        socket.send_message(Message::text(cautious(&frame))).await.expect("a frame");
        let reply = socket.frame_of("reply").await;
        match ok {
            true => {
                let heard = bobs.frame_of("message").await;
                assert_eq!((&heard["content"], &heard["meta"]), (&own, &meta), "{reply}");
            }
            false => assert_eq!(reply["error"]["code"], "too_large", "{reply}"),
        }
    }
}

pub async fn a_frame_that_is_too_large_is_answered_and_the_socket_stays(on: Deployment) {
    let world = on.start().await;
    let Pair { alice, phone, chat, .. } = world.pair().await;
    let device = alice.registers("sub").await;
    let mut socket = Socket::open(&world.addresses()[0], &device.token).await;
    socket.frame_of("welcome").await;
    // An outbox full of what can't be sent: more of it than bad frames are forgiven.
    for id in 0..12 {
        let frame = json!({ "type": "send", "id": id, "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text",
            "content": "x".repeat(1_100_000) });
        socket.send(&frame).await;
        let reply = socket.frame_of("reply").await;
        assert_eq!((&reply["id"], &reply["error"]["code"]), (&json!(id), &json!("too_large")), "{reply}");
    }
    let frame = json!({ "type": "send", "id": 13, "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text", "content": "hi" });
    socket.send(&frame).await;
    assert_eq!(socket.frame_of("reply").await["ok"]["seq"], 1);
    phone.hears(&chat, 1).await;
}

pub async fn a_page_of_history_gets_through_whatever_encoder_wrote_it(on: Deployment) {
    let world = on.start().await;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (main, bobs) = (alice.registers("main").await, bob.phone(1).await);
    let chat = alice.direct(&bob).await;
    let mut phone = Socket::open(&world.addresses()[0], &main.token).await;
    phone.frame_of("welcome").await;
    let mut messages = Vec::new();
    for seq in 1..=100 {
        bobs.says(&chat, &"я".repeat(1_100)).await;
        messages.push(phone.frame_of("message").await);
        phone.send(&json!({ "type": "ack", "chat": chat, "seq": seq })).await;
    }
    let web = alice.web(0).await;
    let request = web.asks(json!({ "type": "history", "chat": chat, "limit": 100 }));
    let asked = phone.frame_of("history_request").await;
    let page =
        json!({ "type": "history_page", "request": asked["request"], "messages": messages, "more": false });
    let page = cautious(&page);
    assert!(page.len() > 725_000, "{}", page.len());
    phone.send_message(Message::text(page)).await.expect("a page");
    let got = web.reply(request).await.expect("the page");
    assert_eq!(got["messages"], Value::from(messages));
    // And the phone is there still.
    phone.send(&json!({ "type": "ping" })).await;
    phone.frame_of("pong").await;
}
