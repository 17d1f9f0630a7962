//! Keys from a JWKS: from a file, and from a server that rotates, fails and hangs.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    config::JwksSource,
    tokens::jwks::{Jwks, Pace},
};

fn claims() -> Value {
    json!({"sub": "alice", "exp": now() + 60})
}

fn with_key(algorithm: Algorithm, kid: Option<&str>, pem: &[u8]) -> String {
    let key = match algorithm {
        Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(), &key.unwrap()).unwrap()
}

/// A file of its own in the test's temporary folder; removed at the end.
struct TempFile(std::path::PathBuf);

impl TempFile {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("keepstep-jwks-{}.json", uuid::Uuid::new_v4()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn config(&self) -> TokenConfig {
        TokenConfig { jwks: Some(JwksSource::File(self.0.clone())), ..config() }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn each_published_key_verifies_its_own_algorithm_and_no_other() {
    let file = TempFile::new(JWKS);
    let tokens = Tokens::new(&file.config()).unwrap();
    for (algorithm, kid, pem) in
        [(Algorithm::EdDSA, "ed-1", ED), (Algorithm::ES256, "p256-1", P256), (Algorithm::RS256, "rsa-1", RSA)]
    {
        let good = with_key(algorithm, Some(kid), pem);
        assert!(tokens.verify_user(&good).await.is_ok(), "{kid}");
        let check = async |kid, error| {
            assert_eq!(
                tokens.verify_user(&with_key(algorithm, kid, pem)).await,
                Err(error),
                "{algorithm:?} {kid:?}"
            );
        };
        check(None, TokenError::NoKeyId).await;
        check(Some("nobody"), TokenError::UnknownKey).await;
        check(Some("*"), TokenError::UnknownKey).await;
        for other in ["ed-1", "p256-1", "rsa-1"] {
            if other != kid {
                check(Some(other), TokenError::Algorithm).await;
            }
        }
        let mut broken = good.clone().into_bytes();
        let at = broken.len() - 10;
        broken[at] = if broken[at] == b'A' { b'B' } else { b'A' };
        let broken = String::from_utf8(broken).unwrap();
        assert_eq!(tokens.verify_user(&broken).await, Err(TokenError::Signature));
    }
    // The shared secret goes on verifying HS256 beside them.
    assert!(tokens.verify_user(&hs256(&claims())).await.is_ok());
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let token = with_key(algorithm, Some("rsa-1"), RSA);
        assert_eq!(tokens.verify_user(&token).await, Err(TokenError::Algorithm), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let file = TempFile::new(JWKS);
    let text = claims().to_string();
    let only_keys = TokenConfig {
        jwt_secret: None,
        token_secret: Some(Secret::new("KEEPSTEP_TOKEN_SECRET", SECRET).unwrap()),
        ..file.config()
    };
    let modulus: Value = serde_json::from_str(JWKS).unwrap();
    let modulus = modulus["keys"][2]["n"].as_str().unwrap();
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim_ascii_end(), modulus.as_bytes(), SECRET.as_bytes(), b""] {
        let token = signed(&json!({"alg": "HS256", "kid": "rsa-1"}), &text, secret);
        // No secret at all: HS256 isn't accepted, not even with the secret of the device tokens.
        assert_eq!(verify(&only_keys, &token).await, Err(TokenError::Algorithm));
        if secret != SECRET.as_bytes() {
            assert_eq!(verify(&file.config(), &token).await, Err(TokenError::Signature));
        }
        let token = signed(&json!({"alg": "RS256", "kid": "rsa-1"}), &text, secret);
        assert_eq!(verify(&file.config(), &token).await, Err(TokenError::Signature));
    }
    let made =
        Tokens::new(&only_keys).unwrap().issue_user(&"a".parse().unwrap(), true, Duration::from_secs(1));
    assert_eq!(made.err(), Some(TokensError::NoSharedSecret));
}

#[tokio::test]
async fn keys_that_are_not_whole_are_never_used() {
    let set: Value = serde_json::from_str(JWKS).unwrap();
    let keys = set["keys"].as_array().unwrap();
    let change = |key: usize, field: &str, value: Value| {
        let mut key = keys[key].clone();
        key[field] = value;
        key
    };
    let weak = "u6vGSuyzmH6VyEsl9mCnD_P8s3TDy45Muql_siCIlh2sB6UP_ooE5OA0B6IwXMltFYftW5DqLch4WokfUw9IQH4XKLrH51zl4yiFNPocM0GFgdLE-80fobac_Ab-bZeZAb7Cyq97UggnmjH3Kklnyj4y9i1-kG33uymbYtnEoic";
    for bad in [
        // The library panics when it verifies with this one.
        change(0, "x", json!("AAAA")),
        change(0, "x", json!("")),
        change(0, "crv", json!("X25519")),
        change(0, "use", json!("enc")),
        change(0, "alg", json!("RS256")),
        change(0, "key_ops", json!(["sign"])),
        change(0, "kid", json!(null)),
        change(0, "kid", json!("")),
        change(0, "x", json!(7)),
        change(1, "crv", json!("P-384")),
        change(1, "y", json!("AAAA")),
        change(2, "n", json!(weak)),
        change(2, "n", json!("!")),
        change(2, "alg", json!("PS256")),
        json!({"kty": "oct", "kid": "rsa-1", "alg": "HS256", "k": base64url(SECRET.as_bytes())}),
        json!({"kty": "future", "kid": "x"}),
        json!("not even an object"),
    ] {
        let alone = TempFile::new(&json!({"keys": [bad]}).to_string());
        let refused = Tokens::new(&alone.config()).err();
        assert!(matches!(refused, Some(TokensError::Jwks { .. })), "{bad}");
        // Beside a good one it does no harm.
        let beside = TempFile::new(&json!({"keys": [bad, keys[1]]}).to_string());
        let tokens = Tokens::new(&beside.config()).unwrap();
        assert!(tokens.verify_user(&with_key(Algorithm::ES256, Some("p256-1"), P256)).await.is_ok());
        assert!(tokens.verify_user(&with_key(Algorithm::EdDSA, Some("ed-1"), ED)).await.is_err());
        assert!(tokens.verify_user(&with_key(Algorithm::RS256, Some("rsa-1"), RSA)).await.is_err());
    }
    for text in [
        "",
        "[]",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":[]}"#,
        "nonsense",
        &format!("{JWKS}{}", " ".repeat(1024 * 1024)),
    ] {
        let file = TempFile::new(text);
        assert!(matches!(Tokens::new(&file.config()), Err(TokensError::Jwks { .. })));
    }
    let absent = TokenConfig { jwks: Some(JwksSource::File("/nowhere/jwks.json".into())), ..config() };
    assert!(matches!(Tokens::new(&absent), Err(TokensError::Jwks { .. })));
}

fn only(kid: &str) -> String {
    let set: Value = serde_json::from_str(JWKS).unwrap();
    let keys: Vec<_> = set["keys"].as_array().unwrap().iter().filter(|key| key["kid"] == kid).collect();
    json!({ "keys": keys }).to_string()
}

/// Quick enough for tests; 100 ms between two wishes.
const QUICK: Pace = Pace {
    every: Duration::from_secs(600),
    gap: Duration::from_millis(100),
    deadline: Duration::from_millis(300),
    retry: Duration::from_secs(60),
    stale: None,
};

fn with_pace(source: &JwksSource, pace: Pace) -> Tokens {
    let device = Ring::new(SECRET.as_bytes(), []);
    let jwks = Some(Jwks::new(source, pace).unwrap());
    Tokens(Arc::new(Inner { shared: None, jwks, device, issuer: None, audience: None }))
}

#[tokio::test]
async fn a_file_is_read_again_for_an_unknown_key() {
    let file = TempFile::new(&only("ed-1"));
    let tokens = with_pace(&JwksSource::File(file.0.clone()), QUICK);
    let (old, new) =
        (with_key(Algorithm::EdDSA, Some("ed-1"), ED), with_key(Algorithm::ES256, Some("p256-1"), P256));
    assert!(tokens.verify_user(&old).await.is_ok());
    std::fs::write(&file.0, only("p256-1")).unwrap();
    assert_eq!(
        tokens.verify_user(&new).await,
        Err(TokenError::UnknownKey),
        "not so soon after the last reading"
    );
    tokio::time::sleep(QUICK.gap).await;
    assert!(tokens.verify_user(&new).await.is_ok());
    assert_eq!(
        tokens.verify_user(&old).await,
        Err(TokenError::UnknownKey),
        "no longer published, no longer trusted"
    );
    std::fs::write(&file.0, "half a fi").unwrap();
    tokio::time::sleep(QUICK.gap).await;
    assert_eq!(tokens.verify_user(&old).await, Err(TokenError::KeysUnavailable));
    assert!(tokens.verify_user(&new).await.is_ok(), "a set that can't be read changes nothing");
}

/// Answers every request with what stands in `body`: none hangs.
struct Published {
    source: JwksSource,
    body: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
}

async fn publish(body: Option<String>) -> Published {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let source =
        JwksSource::new(&format!("http://{}/keys?k=hidden", listener.local_addr().unwrap())).unwrap();
    let (body, asked) = (Arc::new(Mutex::new(body)), Arc::new(AtomicUsize::new(0)));
    let (shared, count) = (Arc::clone(&body), Arc::clone(&asked));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let body = shared.lock().unwrap().clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                match body {
                    Some(body) => {
                        let head = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                            body.len()
                        );
                        let _ = socket.write_all(head.as_bytes()).await;
                        let _ = socket.write_all(body.as_bytes()).await;
                    }
                    None => std::future::pending().await,
                }
            });
        }
    });
    Published { source, body, asked }
}

#[tokio::test]
async fn an_address_is_asked_again_when_the_keys_rotate_but_not_for_every_made_up_name() {
    let server = publish(Some(only("rsa-1"))).await;
    let tokens = with_pace(&server.source, QUICK);
    // At once: the first reading may still be under way, and is waited for.
    assert!(tokens.verify_user(&with_key(Algorithm::RS256, Some("rsa-1"), RSA)).await.is_ok());
    let before = server.asked.load(Ordering::SeqCst);
    for i in 0..50 {
        let token = with_key(Algorithm::EdDSA, Some(&format!("made-up-{i}")), ED);
        assert_eq!(tokens.verify_user(&token).await, Err(TokenError::UnknownKey));
    }
    assert!(server.asked.load(Ordering::SeqCst) <= before + 1);
    *server.body.lock().unwrap() = Some(only("ed-1"));
    tokio::time::sleep(QUICK.gap).await;
    let rotated = with_key(Algorithm::EdDSA, Some("ed-1"), ED);
    // Many at once ask for one reading together.
    let before = server.asked.load(Ordering::SeqCst);
    let all = (0..20).map(|_| tokens.verify_user(&rotated));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(server.asked.load(Ordering::SeqCst), before + 1);
}

#[tokio::test]
async fn an_address_that_is_away_stops_neither_the_start_nor_other_tokens() {
    let server = publish(None).await;
    let tokens = with_pace(&server.source, Pace { retry: Duration::from_millis(50), ..QUICK });
    let token = with_key(Algorithm::EdDSA, Some("ed-1"), ED);
    let began = std::time::Instant::now();
    assert_eq!(tokens.verify_user(&token).await, Err(TokenError::KeysUnavailable));
    assert!(began.elapsed() < Duration::from_secs(2));
    // It comes back, and the task finds it by itself.
    *server.body.lock().unwrap() = Some(JWKS.to_owned());
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while tokens.verify_user(&token).await.is_err() {
        assert!(std::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // A good set, but too large.
    *server.body.lock().unwrap() = Some(format!("{JWKS}{}", " ".repeat(1024 * 1024)));
    tokio::time::sleep(QUICK.gap).await;
    let unknown = with_key(Algorithm::EdDSA, Some("new"), ED);
    assert_eq!(tokens.verify_user(&unknown).await, Err(TokenError::KeysUnavailable));
    assert!(tokens.verify_user(&token).await.is_ok());
    assert!(!format!("{:?} {}", server.source, server.source).contains("hidden"));
}

#[tokio::test]
async fn keys_that_cannot_be_read_again_have_an_end() {
    let server = publish(Some(JWKS.to_owned())).await;
    let stale = Some(Duration::from_millis(400));
    let often = Pace { every: Duration::from_millis(50), retry: Duration::from_millis(50), stale, ..QUICK };
    let tokens = with_pace(&server.source, often);
    let token = with_key(Algorithm::EdDSA, Some("ed-1"), ED);
    tokens.verify_user(&token).await.unwrap();
    // As long as the set is read, nothing ends.
    tokio::time::sleep(Duration::from_millis(600)).await;
    tokens.verify_user(&token).await.unwrap();
    *server.body.lock().unwrap() = None;
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while tokens.verify_user(&token).await != Err(TokenError::KeysUnavailable) {
        assert!(std::time::Instant::now() < until, "keys that nobody publishes any more count for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    *server.body.lock().unwrap() = Some(JWKS.to_owned());
    while tokens.verify_user(&token).await.is_err() {
        assert!(std::time::Instant::now() < until, "they are read again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_task_ends_with_the_last_clone() {
    let server = publish(Some(JWKS.to_owned())).await;
    let tasks = tokio::runtime::Handle::current().metrics();
    let before = tasks.num_alive_tasks();
    let tokens = with_pace(&server.source, Pace { every: Duration::from_millis(10), ..QUICK });
    let clone = tokens.clone();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(tokens);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(clone.verify_user(&with_key(Algorithm::EdDSA, Some("ed-1"), ED)).await.is_ok());
    drop(clone);
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while tasks.num_alive_tasks() != before {
        assert!(std::time::Instant::now() < until, "the task outlives the last clone");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And it really asks no more: time itself is the subject, five readings of it.
    let asked = server.asked.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.asked.load(Ordering::SeqCst), asked);
    assert_eq!(tasks.num_alive_tasks(), before);
}
