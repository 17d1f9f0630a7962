//! What takes bytes from strangers. Each target is a function of some bytes; it panics where something is wrong. Used by the test
//! beside it, which mutates what is kept in `corpus/`, and by the crate `fuzz/`, in which libFuzzer looks for new paths.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use keepstep::broker::{Broker, embedded::EmbeddedBroker};
use keepstep::config::{Limits, PageConfig, ServerConfig, Timing, TokenConfig};
use keepstep::domain::id::UserId;
use keepstep::drain::Drain;
use keepstep::http::{Context, api, assets::Assets};
use keepstep::metrics::Metrics;
use keepstep::protocol::{ClientFrame, compact};
use keepstep::store::{Store, StoreLimits, embedded::EmbeddedStore};
use keepstep::sync::Core;
use keepstep::tokens::Tokens;
use serde_json::Value;
use tokio::runtime::Runtime;
use warp::filters::BoxedFilter;
use warp::http::Request;

// The decoder isn't public: it is looked at in its own file.
#[allow(dead_code)]
#[path = "../../nsq/src/frame.rs"]
mod frame;

const SECRET: &str = "a secret of the fuzzer alone, 32 bytes or more";

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by name; the folder of its corpus is called so.
pub const TARGETS: [(&str, Target); 4] =
    [("frames", frames), ("tokens", tokens), ("bodies", bodies), ("nsq", nsq)];

/// Frames of clients.
pub fn frames(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ClientFrame::parse(text) {
        Ok(frame) => {
            // An application's own JSON is looked into later: half a surrogate pair may be in it still.
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                assert_eq!(value["type"], frame.name());
            }
        }
        Err(rejected) => {
            let told = serde_json::to_string(&rejected.problem).expect("a problem can be told");
            assert!(told.len() < 1_000, "an echo of {} bytes", told.len());
        }
    }
    let short = compact(text);
    assert!(short.len() <= text.len());
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(serde_json::from_str::<Value>(&short).expect("it is JSON still"), value);
        assert_eq!(compact(&short), short);
    }
}

/// Tokens: as they come, or with these claims and a good signature.
pub fn tokens(bytes: &[u8]) {
    static ALL: OnceLock<(Tokens, Runtime)> = OnceLock::new();
    let (tokens, runtime) = ALL.get_or_init(|| {
        let config = TokenConfig::from_secret(SECRET).expect("a good secret");
        (Tokens::new(&config).expect("tokens"), runtime())
    });
    let Some((kind, rest)) = bytes.split_first() else { return };
    let token = match kind % 3 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        kind => {
            let split = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (header, claims) = rest.split_at(split);
            let header = if kind == 1 { &br#"{"alg":"HS256","typ":"JWT"}"#[..] } else { header };
            let signed =
                format!("{}.{}", base64url(header), base64url(claims.strip_prefix(&[0]).unwrap_or(rest)));
            let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
            let signature =
                jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
            format!("{signed}.{}", signature.expect("a signature"))
        }
    };
    if let Ok(claims) = runtime.block_on(tokens.verify_user(&token)) {
        // Whoever is known is a user as all others.
        claims.user.to_string().parse::<UserId>().expect("a user's name");
    }
    // Device tokens have another key.
    assert!(tokens.verify_device(&token).is_err(), "a stranger's token is a device's: {token}");
}

/// The body of each call that has one, by the first byte; of a user that is known.
pub fn bodies(bytes: &[u8]) {
    static ALL: OnceLock<(BoxedFilter<(warp::reply::Response,)>, String, Runtime)> = OnceLock::new();
    let (api, token, runtime) = ALL.get_or_init(|| {
        let runtime = runtime();
        let _entered = runtime.enter();
        // Nothing is refused for being too often.
        let limits = Limits {
            creates_per_minute: u32::MAX,
            devices_per_hour: u32::MAX,
            devices_per_day: u32::MAX,
            invited_per_hour: u32::MAX,
            ..Limits::default()
        };
        let store = Store::Embedded(EmbeddedStore::new(StoreLimits::new(&limits, &Timing::default())));
        let broker = Broker::Embedded(EmbeddedBroker::new());
        let metrics = Metrics::new().expect("metrics");
        let core = Core::start(
            store,
            broker,
            metrics,
            Drain::default(),
            limits,
            Timing::default(),
            "edge".to_owned(),
        );
        let config = TokenConfig::from_secret(SECRET).expect("a good secret");
        let tokens = Tokens::new(&config).expect("tokens");
        let alice = "alice".parse().expect("a name");
        let token = tokens.issue_user(&alice, true, std::time::Duration::from_secs(86_400)).expect("a token");
        let context =
            Context::new(core, tokens, ServerConfig::default(), Assets::from(&PageConfig::default()), None);
        (api(&context), token.token, runtime)
    });
    const CALLS: [&str; 11] = [
        "/v1/devices",
        "/v1/chats",
        "/v1/chats/join",
        "/v1/chats/3f396dde-0000-4000-8000-000000000000/join",
        "/v1/chats/3f396dde-0000-4000-8000-000000000000/leave",
        "/v1/chats/3f396dde-0000-4000-8000-000000000000/members",
        "/v1/chats/3f396dde-0000-4000-8000-000000000000/messages",
        "/v1/links",
        "/v1/links/ABCDEFGH/approve",
        "/admin/v1/users/alice/kick",
        "/admin/v1/channels/sweep",
    ];
    let Some((call, body)) = bytes.split_first() else { return };
    let path = CALLS[usize::from(*call) % CALLS.len()];
    let request = Request::post(path)
        .header("Authorization", format!("Bearer {token}"))
        .body(http_body_util::Full::new(Bytes::copy_from_slice(body)))
        .expect("a request");
    let answer = runtime.block_on(TowerToHyperService::new(warp::service(api.clone())).call(request));
    let status = answer.expect("an answer").status().as_u16();
    assert!(status < 500, "{path}: {status}");
}

/// What an nsqd sends: the same in one piece and in many.
pub fn nsq(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else { return };
    let whole = decoded(stream, stream.len().max(1));
    assert_eq!(whole, decoded(stream, usize::from(*piece).max(1)));
    if let (Some(frame::Frame::Error(text)), _) = (whole.0.last(), ()) {
        let _ = (frame::error_code(text), frame::is_answerable(text), frame::is_of_touch(text));
    }
}

fn decoded(stream: &[u8], piece: usize) -> (Vec<frame::Frame>, Option<frame::FrameError>) {
    let (mut decoder, mut frames) = (frame::Decoder::default(), Vec::new());
    for mut input in stream.chunks(piece) {
        loop {
            match decoder.next(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
