//! Invalid input on the socket: each row gets its documented code, and nothing changes.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{
    Frame,
    coding::{Data, OpCode},
};

use super::client::Socket;
use super::user::User;
use super::world::{Pair, Setup};
use super::{Deployment, World};

/// A phone on a bare socket, in a chat with three messages, all acknowledged and none read.
struct Target {
    world: World,
    user: User,
    token: String,
    chat: String,
    socket: Socket,
}

impl Target {
    async fn set_up(setup: Setup) -> Target {
        let world = setup.start().await;
        let (user, bob) = (world.user("alice"), world.user("bob"));
        let mut phone = user.phone(0).await;
        let chat = user.direct(&bob).await;
        phone.says_many(&chat, "said", 3).await;
        phone.hears(&chat, 3).await;
        phone.acks(&chat, 3).await;
        phone.leaves().await;
        let token = phone.token.clone();
        let mut socket = Socket::open(&world.addresses()[0], &token).await;
        assert_eq!(socket.frame().await["type"], "welcome");
        Target { world, user, token, chat, socket }
    }

    fn patient(on: Deployment) -> Setup {
        on.with("KEEPSTEP_BAD_FRAMES_IN_A_ROW", "1000000")
    }

    /// Sends a text and returns its only error; a ping after it marks the end of the answers.
    async fn refusal(&mut self, what: &str, text: &str) -> Value {
        // CHAT and KEY stand for the chat and for a new key.
        let text = text.replace("CHAT", &self.chat).replace("KEY", &uuid::Uuid::new_v4().to_string());
        self.socket.send_message(Message::text(text)).await.expect("a text can be sent");
        self.socket.send(&json!({ "type": "ping" })).await;
        let answer = self.socket.frame().await;
        assert!(answer["error"].is_object(), "{what}: {answer}");
        assert_eq!(self.socket.frame().await["type"], "pong", "{what} got more than one answer");
        let error = &answer["error"];
        assert!(error["message"].is_string() && error["retry"].is_boolean(), "{what}: {answer}");
        answer
    }

    /// Each row: what it is, the text, and the code (or codes, with a bar between).
    async fn refuses(&mut self, rows: &[(&str, &str, &str)]) {
        for (what, text, code) in rows {
            let answer = self.refusal(what, text).await;
            let got = answer["error"]["code"].as_str().unwrap_or_default();
            assert!(code.split('|').any(|code| code == got), "{what}: {code} was expected: {answer}");
        }
    }

    /// Checks that nothing has changed, neither here nor for a device that connects anew.
    async fn finds_nothing_changed(self) {
        let Target { world, user, token, chat, mut socket } = self;
        socket.send(&json!({ "type": "ack", "id": "last", "chat": chat, "seq": 3 })).await;
        assert_eq!(socket.frame().await, json!({ "type": "reply", "id": "last", "ok": { "seq": 3 } }));
        let mut again = Socket::open(&world.addresses()[0], &token).await;
        let welcome = again.frame().await;
        let entry = &welcome["chats"][0];
        let numbers = ["head", "cursor", "read", "from"].map(|name| entry[name].as_u64());
        assert_eq!(numbers, [Some(3), Some(3), Some(0), Some(0)], "{entry}");
        let offsets = user.api(0).get("/v1/offsets").await.ok();
        assert_eq!(offsets[&chat].as_u64().unwrap_or(0), 0);
    }
}

pub async fn what_is_no_good_json_is_refused_and_changes_nothing(on: Deployment) {
    let mut target = Target::set_up(Target::patient(on)).await;
    let deep_array = "[".repeat(60_000) + &"]".repeat(60_000);
    let deep_object =
        format!(r#"{{"type":"ping","x":{}1{}}}"#, r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
    let deep_content = format!(
        r#"{{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"x.deep","content":{}{}}}"#,
        "[".repeat(60_000),
        "]".repeat(60_000)
    );
    target
        .refuses(&[
            ("nothing", "", "bad_json"),
            ("a space", " ", "bad_json"),
            ("words", "hello", "bad_json"),
            ("half an object", r#"{"type":"ping""#, "bad_json"),
            ("a comma too many", r#"{"type":"ping",}"#, "bad_json"),
            ("single quotes", r"{'type':'ping'}", "bad_json"),
            ("a comment", r#"{"type":"ping"/* hi */}"#, "bad_json"),
            ("NaN", r#"{"type":"ack","chat":"CHAT","seq":NaN}"#, "bad_json"),
            ("trailing bytes", r#"{"type":"ping"} x"#, "bad_json"),
            ("two frames in one", r#"{"type":"ping"}{"type":"ping"}"#, "bad_json"),
            ("a raw control character", "{\"type\":\"pi\u{1}ng\"}", "bad_json"),
            ("a BOM", "\u{feff}{\"type\":\"ping\"}", "bad_json"),
            ("a lone surrogate", r#"{"type":"typing","chat":"\ud800"}"#, "bad_json|bad_field"),
            (
                "a lone surrogate in a content",
                r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":"\udc00"}"#,
                "bad_json|bad_field",
            ),
            (
                "a lone surrogate in an application's content",
                r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"x.a","content":"\udc00"}"#,
                "bad_json|bad_field",
            ),
            ("deep arrays", &deep_array, "bad_json|bad_frame"),
            ("deep objects", &deep_object, "bad_json|bad_field"),
            ("deep content", &deep_content, "bad_json|bad_field"),
            ("an array", "[]", "bad_frame"),
            ("an array of frames", r#"[{"type":"ping"}]"#, "bad_frame"),
            ("an array of a frame's values", r#"["ping",1]"#, "bad_frame"),
            (
                "an array of a send's values",
                r#"["send",1,"CHAT","KEY","text","x",null,null,null]"#,
                "bad_frame",
            ),
            ("a string", r#""ping""#, "bad_frame"),
            ("a number", "1", "bad_frame"),
            ("null", "null", "bad_frame"),
            ("an empty object", "{}", "bad_frame"),
            ("no type", r#"{"id":1,"chat":"CHAT"}"#, "bad_frame"),
            ("a type that is a number", r#"{"type":1}"#, "bad_frame"),
            ("an unknown type", r#"{"type":"sned","id":1}"#, "bad_frame"),
            ("a type of the server's", r#"{"type":"message","chat":"CHAT","seq":4}"#, "bad_frame"),
            ("a type in upper case", r#"{"type":"PING"}"#, "bad_frame"),
            ("the type twice", r#"{"type":"ping","type":"ping"}"#, "bad_field"),
            ("a field twice", r#"{"type":"ack","chat":"CHAT","seq":1,"seq":2}"#, "bad_field"),
            ("the id twice", r#"{"type":"ping","id":1,"id":2}"#, "bad_field"),
        ])
        .await;
    // An answer names what it answers, as far as that could be read.
    let answer = target.refusal("with an id", r#"{"type":"sned","id":"my own"}"#).await;
    assert_eq!((&answer["type"], &answer["id"]), (&json!("reply"), &json!("my own")));
    let answer = target.refusal("without an id", r#"{"type":"ack","chat":"CHAT","seq":-1}"#).await;
    assert_eq!((&answer["type"], &answer["frame"]), (&json!("error"), &json!("ack")));
    target.finds_nothing_changed().await;
}

pub async fn fields_that_cannot_be_right_are_refused(on: Deployment) {
    let mut target = Target::set_up(Target::patient(on)).await;
    target
        .refuses(&[
            ("an unknown field", r#"{"type":"ack","chat":"CHAT","seq":3,"sqe":3}"#, "bad_field"),
            ("a sender of one's own", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":"x","from":"bob"}"#, "bad_field"),
            ("a seq of one's own", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":"x","seq":9}"#, "bad_field"),
            ("no chat", r#"{"type":"ack","seq":3}"#, "bad_field"),
            ("no seq", r#"{"type":"read","id":1,"chat":"CHAT"}"#, "bad_field"),
            ("no key", r#"{"type":"send","id":1,"chat":"CHAT","kind":"text","content":"x"}"#, "bad_field"),
            ("no kind", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","content":"x"}"#, "bad_field"),
            ("no content", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text"}"#, "bad_field"),
            ("no id on a send", r#"{"type":"send","chat":"CHAT","key":"KEY","kind":"text","content":"x"}"#, "bad_field"),
            ("content that is a number", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":5}"#, "bad_field"),
            ("content that is null", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":null}"#, "bad_field"),
            ("an unknown kind", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"video","content":"x"}"#, "bad_field"),
            ("an empty kind of the application's", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"x.","content":"x"}"#, "bad_field"),
            ("media without media", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"media"}"#, "bad_field"),
            ("text with media", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":"x","media":{"url":"u"}}"#, "bad_field"),
            ("media with an unknown field", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"media","media":{"url":"u","alt":"x"}}"#, "bad_field"),
            ("media that is a list of its values", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"media","media":["u",null,null,null,null,null,null]}"#, "bad_field"),
            ("meta that is a list", r#"{"type":"send","id":1,"chat":"CHAT","key":"KEY","kind":"text","content":"x","meta":[1]}"#, "bad_field"),
            ("a seq that is a string", r#"{"type":"ack","chat":"CHAT","seq":"3"}"#, "bad_field"),
            ("a seq that is null", r#"{"type":"ack","chat":"CHAT","seq":null}"#, "bad_field"),
            ("a float", r#"{"type":"ack","chat":"CHAT","seq":3.0}"#, "bad_field"),
            ("a fraction", r#"{"type":"read","chat":"CHAT","seq":1.5}"#, "bad_field"),
            ("an exponent", r#"{"type":"read","chat":"CHAT","seq":1e0}"#, "bad_field"),
            ("negative", r#"{"type":"ack","chat":"CHAT","seq":-1}"#, "bad_range"),
            ("2^53", r#"{"type":"read","chat":"CHAT","seq":9007199254740992}"#, "bad_range"),
            ("2^64", r#"{"type":"read","chat":"CHAT","seq":18446744073709551616}"#, "bad_range"),
            ("-2^63 - 1", r#"{"type":"read","chat":"CHAT","seq":-9223372036854775809}"#, "bad_range"),
            ("an ack beyond what was sent", r#"{"type":"ack","chat":"CHAT","seq":4}"#, "bad_range"),
            ("an ack far beyond", r#"{"type":"ack","id":1,"chat":"CHAT","seq":9007199254740991}"#, "bad_range"),
            ("a read above the head", r#"{"type":"read","id":1,"chat":"CHAT","seq":4}"#, "bad_range"),
            ("an id that is an object", r#"{"type":"ping","id":{}}"#, "bad_field"),
            ("an id that is a float", r#"{"type":"ping","id":1.5}"#, "bad_field"),
            ("a frame of subs alone", r#"{"type":"history","id":1,"chat":"CHAT","limit":5}"#, "bad_frame"),
            ("an answer that nobody asked for", r#"{"type":"history_page","request":"r","messages":[],"more":false}"#, "not_found|bad_field"),
        ])
        .await;
    let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "i".repeat(100_000));
    target.refuses(&[("an endless id", &long, "bad_field")]).await;
    target.finds_nothing_changed().await;
}

pub async fn ids_are_uuids_and_nothing_else(on: Deployment) {
    let mut target = Target::set_up(Target::patient(on)).await;
    let plain = target.chat.replace('-', "");
    let bad = [
        "",
        "*",
        "../../etc/passwd",
        "CHAT/",
        "CHAT\\r\\nX: y",
        "CHAT\\u0000",
        "\\u0000",
        "CHAT#ephemeral",
        "{CHAT}",
        "urn:uuid:CHAT",
        " CHAT",
        "CHAT ",
        "c.CHAT",
        "????????-????-????-????-????????????",
        "[0-9]*",
        "${jndi:x}",
        "0b1c2d3e-0000-4000-8000-00000000000g",
        "0b1c2d3e-0000-4000-8000-0000000000000",
        "０b1c2d3e-0000-4000-8000-00000000000",
        &plain,
        &"a".repeat(65),
        &"a".repeat(36),
    ];
    for id in bad {
        for frame in [
            format!(r#"{{"type":"ack","chat":"{id}","seq":1}}"#),
            format!(r#"{{"type":"read","id":1,"chat":"{id}","seq":1}}"#),
            format!(r#"{{"type":"typing","chat":"{id}"}}"#),
            format!(r#"{{"type":"send","id":1,"chat":"{id}","key":"KEY","kind":"text","content":"x"}}"#),
            format!(r#"{{"type":"send","id":1,"chat":"CHAT","key":"{id}","kind":"text","content":"x"}}"#),
        ] {
            target.refuses(&[(&frame, &frame, "bad_field")]).await;
        }
    }
    // Upper case is the same id.
    let ack = json!({ "type": "ack", "id": 1, "chat": target.chat.to_uppercase(), "seq": 3 });
    target.socket.send(&ack).await;
    assert_eq!(target.socket.frame().await["ok"], json!({ "seq": 3 }));
    target.finds_nothing_changed().await;
}

pub async fn content_has_64_kib_and_not_a_byte_more(on: Deployment) {
    let world = on.start().await;
    let Pair { alice, phone, bobs, chat, .. } = world.pair().await;
    let send = |content: &str| json!({ "type": "send", "chat": chat, "key": uuid::Uuid::new_v4(), "kind": "text", "content": content });
    let (most, wide) = ("x".repeat(65_536), "ä".repeat(32_768));
    phone.is_refused(send(&format!("{most}y")), "too_large").await;
    phone.is_refused(send(&format!("{wide}y")), "too_large").await;
    let mut large = send("x");
    large["memo"] = "m".repeat(5_000).into();
    phone.is_refused(large, "too_large").await;
    let mut large = send("x");
    large["meta"] = json!({ "m": "m".repeat(4_096) });
    phone.is_refused(large, "too_large").await;
    for (seq, content) in [(1, &most), (2, &wide)] {
        assert_eq!(phone.says(&chat, content).await.seq, seq);
        bobs.hears(&chat, seq).await;
        assert_eq!(bobs.memory().chat(&chat).unwrap().contents(seq..=seq), [content.as_str()]);
    }
    // By HTTP the same.
    let path = format!("/v1/chats/{chat}/messages");
    let body = |content: &str| json!({ "key": uuid::Uuid::new_v4(), "kind": "text", "content": content });
    alice.api(1).post(&path, body(&format!("{most}y"))).await.problem(413, "too_large");
    assert_eq!(alice.api(1).post(&path, body(&most)).await.ok()["seq"], 3);
}

pub async fn ten_bad_frames_in_a_row_close_the_socket(on: Deployment) {
    let mut target = Target::set_up(on.with("KEEPSTEP_LOG", "info")).await;
    // Nine, and a good one; again and again: it stays open.
    for _ in 0..3 {
        for _ in 0..9 {
            target.socket.send(&json!({ "type": "nonsense" })).await;
            assert_eq!(target.socket.frame().await["error"]["code"], "bad_frame");
        }
        target.socket.send(&json!({ "type": "ping" })).await;
        assert_eq!(target.socket.frame().await["type"], "pong");
    }
    for _ in 0..10 {
        target.socket.send(&json!({ "type": "ack", "chat": target.chat, "seq": 4000 })).await;
        assert_eq!(target.socket.frame().await["error"]["code"], "bad_range");
    }
    assert_eq!(target.socket.refused().await.0, 4400);
}

pub async fn frames_that_are_no_frames_close_the_socket(on: Deployment) {
    let target = Target::set_up(Target::patient(on)).await;
    let edge = target.world.addresses()[0].clone();
    let open = async || {
        let mut socket = Socket::open(&edge, &target.token).await;
        assert_eq!(socket.frame().await["type"], "welcome");
        socket
    };
    let mut socket = open().await;
    let _ = socket.send_message(Message::text("x".repeat(2_200_000))).await;
    assert_eq!(socket.closed().await.0, 4413, "oversized");
    assert_eq!(target.world.metric("keepstep_closes_total{code=\"frame_too_large\"}").await, 1.0);

    let mut socket = open().await;
    let broken = Frame::message(vec![b'"', 0xff, 0xfe, b'"'], OpCode::Data(Data::Text), true);
    let _ = socket.send_message(Message::Frame(broken)).await;
    assert_eq!(socket.closed().await.0, 1007);

    // A binary frame is a bad frame like others; a text in pieces is a text.
    let mut socket = open().await;
    socket.send_message(Message::binary(b"{\"type\":\"ping\"}".to_vec())).await.expect("a binary frame");
    assert_eq!(socket.frame().await["error"]["code"], "bad_frame");
    let pieces =
        [(Data::Text, "{\"type\":", false), (Data::Continue, "", false), (Data::Continue, "\"ping\"}", true)];
    for (data, text, last) in pieces {
        let piece = Frame::message(text.as_bytes().to_vec(), OpCode::Data(data), last);
        socket.send_message(Message::Frame(piece)).await.expect("a piece");
    }
    assert_eq!(socket.frame().await["type"], "pong");
    let stray = Frame::message(b"x".to_vec(), OpCode::Data(Data::Continue), true);
    let _ = socket.send_message(Message::Frame(stray)).await;
    assert_eq!(socket.closed().await.0, 1002);
    assert_eq!(open().await.send_message(Message::Ping(Vec::new().into())).await, Ok(()));
}

pub async fn chats_of_others_are_not_there(on: Deployment) {
    let mut target = Target::set_up(Target::patient(on)).await;
    let (bob, carol) = (target.world.user("bob"), target.world.user("carol"));
    let theirs = bob.direct(&carol).await;
    let nothing = uuid::Uuid::new_v4().to_string();
    for chat in [theirs.clone(), nothing] {
        for frame in [
            r#"{"type":"send","id":1,"chat":"OTHER","key":"KEY","kind":"text","content":"x"}"#,
            r#"{"type":"ack","id":1,"chat":"OTHER","seq":0}"#,
            r#"{"type":"ack","chat":"OTHER","seq":1}"#,
            r#"{"type":"read","id":1,"chat":"OTHER","seq":0}"#,
            r#"{"type":"read","chat":"OTHER","seq":9}"#,
            r#"{"type":"typing","id":1,"chat":"OTHER"}"#,
        ] {
            let frame = frame.replace("OTHER", &chat);
            target.refuses(&[(&frame, &frame, "not_found")]).await;
        }
        for path in [format!("/v1/chats/{chat}"), format!("/v1/chats/{chat}/messages")] {
            target.world.api(1, &target.token).get(&path).await.problem(404, "not_found");
        }
    }
    assert_eq!(bob.api(0).get(&format!("/v1/chats/{theirs}")).await.ok()["head"], 0);
    target.finds_nothing_changed().await;
}
