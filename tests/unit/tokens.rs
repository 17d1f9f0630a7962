//! Bad tokens by the table, and good ones.

use jsonwebtoken::get_current_timestamp;
use serde_json::json;

use super::*;
use crate::config::Secret;

#[path = "tokens/published.rs"]
mod published;

const SECRET: &str = "a secret for tests, of 32 bytes or more";
const RSA_PUBLIC: &[u8] = include_bytes!("../data/rsa.pub.pem");
const ED: &[u8] = include_bytes!("../data/ed25519.pem");
const P256: &[u8] = include_bytes!("../data/p256.pem");
const RSA: &[u8] = include_bytes!("../data/rsa.pem");
const JWKS: &str = include_str!("../data/jwks.json");

fn now() -> u64 {
    get_current_timestamp()
}

fn config() -> TokenConfig {
    TokenConfig::from_secret(SECRET).unwrap()
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        for i in 0..=chunk.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * i)) as usize & 63]));
        }
    }
    text
}

/// Any header and claims, signed with HMAC-SHA256 whatever the header says.
fn signed(header: &Value, claims: &str, secret: &[u8]) -> String {
    let message = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(claims.as_bytes()));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn hs256(claims: &Value) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims.to_string(), SECRET.as_bytes())
}

async fn verify(config: &TokenConfig, token: &str) -> Result<UserClaims, TokenError> {
    Tokens::new(config).unwrap().verify_user(token).await
}

#[tokio::test]
async fn a_good_token_says_who_and_whether_admin() {
    let exp = now() + 60;
    for (extra, admin) in
        [(json!(true), true), (json!(false), false), (json!("true"), false), (json!(1), false)]
    {
        let token = hs256(&json!({"sub": "alice", "exp": exp, "admin": extra, "unknown": {"is": "fine"}}));
        let claims = verify(&config(), &token).await.unwrap();
        assert_eq!(claims, UserClaims { user: "alice".parse().unwrap(), admin, expires: exp * 1000 });
    }
}

#[tokio::test]
async fn bad_claims_are_refused() {
    let exp = now() + 60;
    let missing = TokenError::Missing;
    let subject = TokenError::Subject(crate::domain::id::IdError::User);
    for (claims, error) in [
        (json!({"exp": exp}), missing("sub")),
        (json!({"sub": null, "exp": exp}), missing("sub")),
        (json!({"sub": 7, "exp": exp}), missing("sub")),
        (json!({"sub": "", "exp": exp}), subject.clone()),
        (json!({"sub": "a*", "exp": exp}), subject.clone()),
        (json!({"sub": "a\r\nb", "exp": exp}), subject.clone()),
        (json!({"sub": "x".repeat(65), "exp": exp}), subject),
        (json!({"sub": "alice"}), missing("exp")),
        (json!({"sub": "alice", "exp": null}), missing("exp")),
        (json!({"sub": "alice", "exp": "9999999999"}), missing("exp")),
        (json!({"sub": "alice", "exp": -1}), missing("exp")),
        (json!({"sub": "alice", "exp": now() - 7}), TokenError::Expired),
        (json!({"sub": "alice", "exp": 0}), TokenError::Expired),
        (json!({"sub": "alice", "exp": exp, "nbf": now() + 30}), TokenError::NotYet),
        (json!({"sub": "alice", "exp": exp, "nbf": "soon"}), missing("nbf")),
        (json!(["alice"]), TokenError::Claims),
        (json!("alice"), TokenError::Claims),
    ] {
        let found = verify(&config(), &hs256(&claims)).await;
        assert_eq!(found, Err(error), "{claims}");
    }
    // Twice the same claim: whoever reads the other one sees another user.
    let doubled = format!(r#"{{"sub":"alice","sub":"root","exp":{exp}}}"#);
    let token = signed(&json!({"alg": "HS256"}), &doubled, SECRET.as_bytes());
    assert_eq!(verify(&config(), &token).await, Err(TokenError::Claims));
}

#[tokio::test]
async fn clocks_may_be_five_seconds_apart() {
    for claims in [
        json!({"sub": "alice", "exp": now() - 3}),
        json!({"sub": "alice", "exp": now() + 60, "nbf": now() + 3}),
        json!({"sub": "alice", "exp": (now() + 60) as f64 + 0.5}),
        json!({"sub": "alice", "exp": 18_000_000_000_000_000_000_u64}),
    ] {
        assert!(verify(&config(), &hs256(&claims)).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn bad_headers_and_texts_are_refused() {
    let claims = json!({"sub": "alice", "exp": now() + 60}).to_string();
    let with = |header: Value| signed(&header, &claims, SECRET.as_bytes());
    let good = with(json!({"alg": "HS256"}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let none = |alg: &str| {
        format!(
            "{}.{}.",
            base64url(json!({ "alg": alg }).to_string().as_bytes()),
            base64url(claims.as_bytes())
        )
    };
    let cases = [
        (String::new(), TokenError::Header),
        ("garbage".to_owned(), TokenError::Header),
        ("..".to_owned(), TokenError::Header),
        ("a.b.c.d".to_owned(), TokenError::Header),
        ("ä.ö.ü".to_owned(), TokenError::Header),
        (none("none"), TokenError::Header),
        (none("None"), TokenError::Header),
        (none("HS256"), TokenError::Signature),
        (with(json!({"alg": "hs256"})), TokenError::Header),
        (with(json!({"typ": "JWT"})), TokenError::Header),
        (with(json!({"alg": "HS384"})), TokenError::Algorithm),
        (with(json!({"alg": "HS512"})), TokenError::Algorithm),
        // Without a JWKS there is no key for these, and the secret must not be tried.
        (with(json!({"alg": "RS256", "kid": "rsa-1"})), TokenError::Algorithm),
        (with(json!({"alg": "EdDSA", "kid": "ed-1"})), TokenError::Algorithm),
        (with(json!({"alg": "HS256", "crit": ["exp"]})), TokenError::Critical),
        (with(json!({"alg": "HS256", "crit": []})), TokenError::Critical),
        (
            with(json!({"alg": "HS256", "typ": "Keepstep-Device"})),
            TokenError::WrongKind("a device token where a user token is needed"),
        ),
        (message.to_owned(), TokenError::Header),
        (format!("{message}."), TokenError::Signature),
        (format!("{message}.AAAA"), TokenError::Signature),
        (format!("{message}.{signature}="), TokenError::Signature),
        (format!(" {good}"), TokenError::Header),
        (
            signed(&json!({"alg": "HS256"}), &claims, b"another secret of 32 bytes or more"),
            TokenError::Signature,
        ),
        (signed(&json!({"alg": "HS256"}), &claims, b""), TokenError::Signature),
        (format!("{good}{}", "A".repeat(MAX_TOKEN_BYTES)), TokenError::TooLong),
    ];
    for (token, error) in cases {
        let found = verify(&config(), &token).await;
        assert_eq!(found, Err(error), "{token}");
    }
    assert!(verify(&config(), &good).await.is_ok());
    assert!(
        verify(&config(), &with(json!({"alg": "HS256", "typ": "at+jwt", "kid": "ignored"}))).await.is_ok()
    );
}

#[tokio::test]
async fn issuer_and_audience_must_be_there_and_equal_when_they_are_configured() {
    let strict =
        TokenConfig { issuer: Some("idp".to_owned()), audience: Some("chat".to_owned()), ..config() };
    let claims = |iss: Value, aud: Value| json!({"sub": "alice", "exp": now() + 60, "iss": iss, "aud": aud});
    let ok = None;
    for (claims, error) in [
        (claims(json!("idp"), json!("chat")), ok),
        (claims(json!("idp"), json!(["mail", "chat"])), None),
        (claims(json!("idp"), json!(null)), Some(TokenError::Audience)),
        (claims(json!("idp"), json!("mail")), Some(TokenError::Audience)),
        (claims(json!("idp"), json!(["mail"])), Some(TokenError::Audience)),
        (claims(json!("idp"), json!([])), Some(TokenError::Audience)),
        (claims(json!("idp"), json!(["chat", 7])), Some(TokenError::Audience)),
        (claims(json!("IDP"), json!("chat")), Some(TokenError::Issuer)),
        (claims(json!(null), json!("chat")), Some(TokenError::Issuer)),
        (claims(json!(["idp"]), json!("chat")), Some(TokenError::Issuer)),
        (claims(json!(["other"]), json!("chat")), Some(TokenError::Issuer)),
    ] {
        assert_eq!(verify(&strict, &hs256(&claims)).await.err(), error, "{claims}");
        // Not configured: not looked at. Every identity provider sets `aud`.
        assert!(verify(&config(), &hs256(&claims)).await.is_ok(), "{claims}");
    }
    let issued = Tokens::new(&strict)
        .unwrap()
        .issue_user(&"bob".parse().unwrap(), true, Duration::from_secs(9))
        .unwrap();
    let claims = verify(&strict, &issued.token).await.unwrap();
    assert!(claims.admin && claims.user.as_str() == "bob" && claims.expires == issued.expires);
}

#[tokio::test]
async fn each_verifier_refuses_the_other_kind() {
    // The worst case: both kinds are signed with one and the same text.
    let same =
        TokenConfig { token_secret: Some(Secret::new("KEEPSTEP_TOKEN_SECRET", SECRET).unwrap()), ..config() };
    for config in [config(), same] {
        let tokens = Tokens::new(&config).unwrap();
        let claims = DeviceClaims {
            user: "alice".parse().unwrap(),
            device: DeviceId::random(),
            kind: DeviceKind::Sub,
            generation: 3,
        };
        let device = tokens.issue_device(&claims).unwrap();
        assert_eq!(tokens.verify_device(&device), Ok(claims));
        assert!(matches!(tokens.verify_user(&device).await, Err(TokenError::WrongKind(_))));
        let user = tokens.issue_user(&"alice".parse().unwrap(), true, Duration::from_secs(60)).unwrap().token;
        assert!(tokens.verify_user(&user).await.is_ok());
        assert!(matches!(tokens.verify_device(&user), Err(TokenError::WrongKind(_))));
    }
}

#[test]
fn forged_device_tokens_are_refused() {
    let tokens = Tokens::new(&config()).unwrap();
    let good = json!({"sub": "alice", "dev": DeviceId::random(), "kind": "sub", "gen": 1, "iat": 1});
    let typed = json!({"alg": "HS256", "typ": DEVICE_TYPE});
    let key = derive_device_key(SECRET.as_bytes()).unwrap();
    assert!(tokens.verify_device(&signed(&typed, &good.to_string(), &key)).is_ok());
    let mut other = good.clone();
    other["kind"] = json!("owner");
    let mut negative = good.clone();
    negative["gen"] = json!(-1);
    for (token, error) in [
        // The identity provider's secret doesn't make devices.
        (signed(&typed, &good.to_string(), SECRET.as_bytes()), TokenError::Signature),
        (
            signed(&json!({"alg": "HS384", "typ": DEVICE_TYPE}), &good.to_string(), &key),
            TokenError::Algorithm,
        ),
        (
            signed(&json!({"alg": "HS256", "typ": DEVICE_TYPE, "crit": ["x"]}), &good.to_string(), &key),
            TokenError::Critical,
        ),
        (
            signed(&json!({"alg": "HS256", "typ": "JWT"}), &good.to_string(), &key),
            TokenError::WrongKind("not a device token"),
        ),
        (
            signed(&json!({"alg": "HS256"}), &good.to_string(), &key),
            TokenError::WrongKind("not a device token"),
        ),
        (signed(&typed, &other.to_string(), &key), TokenError::Claims),
        (signed(&typed, &negative.to_string(), &key), TokenError::Claims),
        (signed(&typed, "{}", &key), TokenError::Claims),
        ("x".repeat(MAX_TOKEN_BYTES + 1), TokenError::TooLong),
    ] {
        assert_eq!(tokens.verify_device(&token), Err(error), "{token}");
    }
}

#[test]
fn an_empty_secret_can_not_be_made_and_none_prints() {
    assert!(Secret::new("KEEPSTEP_JWT_SECRET", "").is_err());
    assert!(Secret::new("KEEPSTEP_JWT_SECRET", &"x".repeat(31)).is_err());
    let config = config();
    assert!(!format!("{config:?}").contains("secret for tests"));
    assert_eq!(Tokens::new(&TokenConfig::default()).err(), Some(TokensError::NoSecret));
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "[A-Za-z0-9_.-]{0,200}", bytes in ".{0,80}") {
        let tokens = Tokens::new(&config()).unwrap();
        proptest::prop_assert!(tokens.verify_device(&text).is_err());
        proptest::prop_assert!(tokens.verify_device(&bytes).is_err());
    }
}

#[tokio::test]
async fn secrets_are_rotated_with_overlap() {
    const NEXT: &str = "the secret that comes after that, also long enough";
    let secret = |text: &str| Secret::new("KEEPSTEP_JWT_SECRET", text).unwrap();
    let with = |first: &str, others: &[&str]| {
        let other_jwt_secrets = others.iter().map(|text| secret(text)).collect();
        Tokens::new(&TokenConfig { other_jwt_secrets, ..TokenConfig::from_secret(first).unwrap() }).unwrap()
    };
    let user: UserId = "alice".parse().unwrap();
    let claims = DeviceClaims {
        user: user.clone(),
        device: DeviceId::random(),
        kind: DeviceKind::Main,
        generation: 1,
    };
    // All edges learn the next one, then sign with it, then forget the first.
    let steps = [with(SECRET, &[]), with(SECRET, &[NEXT]), with(NEXT, &[SECRET]), with(NEXT, &[])];
    let issued = steps.each_ref().map(|step| {
        let user = step.issue_user(&user, false, Duration::from_secs(60)).unwrap().token;
        (user, step.issue_device(&claims).unwrap())
    });
    for (n, verifier) in steps.iter().enumerate() {
        for (m, (user_token, device_token)) in issued.iter().enumerate() {
            // Signed by the first secret in steps 0 and 1, by the next one in 2 and 3.
            let known = if m < 2 { n < 3 } else { n > 0 };
            assert_eq!(verifier.verify_user(user_token).await.is_ok(), known, "step {m} at step {n}");
            assert_eq!(verifier.verify_device(device_token).is_ok(), known, "step {m} at step {n}");
        }
    }
    // What else is wrong with a token is said of the secret that signed it.
    let expired = hs256(&json!({"sub": "alice", "exp": now() - 60}));
    assert_eq!(steps[2].verify_user(&expired).await, Err(TokenError::Expired));
    // A token secret of one's own is rotated in the same way, and then no JWT secret makes device tokens.
    let token_secret = |first: &str, others: &[&str]| {
        let other_token_secrets = others.iter().map(|text| secret(text)).collect();
        let config = TokenConfig { token_secret: Some(secret(first)), other_token_secrets, ..config() };
        Tokens::new(&config).unwrap()
    };
    let before = token_secret(NEXT, &[]).issue_device(&claims).unwrap();
    assert!(token_secret(SECRET, &[NEXT]).verify_device(&before).is_ok());
    assert!(token_secret(SECRET, &[]).verify_device(&before).is_err());
    assert!(token_secret(NEXT, &[]).verify_device(&issued[0].1).is_err());
}
