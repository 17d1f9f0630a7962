//! Tokens: who is a user, and who is a device.
//!
//! Two kinds, and a verifier for each that refuses the other kind:
//!
//! - A *user token* comes from the application's identity provider. `HS256` is verified with the shared secret and with
//!   nothing else; `EdDSA`, `ES256` and `RS256` with the public key that the token's `kid` names, and only if that key
//!   is of that type. So a public key can't be abused as a shared secret, whatever the token's header says.
//! - A *device token* is made here, with a key of its own, and carries `typ: keepstep-device`. It has no `exp`: it dies
//!   with its device. Whoever verifies one must look up the device at each use and compare the credential version.
//!
//! The library leaves much open by default (60 s of leeway; `aud` and `iss` pass when they are absent; an empty secret
//! is a secret), so everything here is asked for by name. No token and no secret is ever part of an error or a log line.

use std::{sync::Arc, time::Duration};

use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::{
    config::{Secret, TokenConfig},
    domain::{
        Millis,
        device::DeviceKind,
        id::{DeviceId, UserId},
        now_millis,
    },
};

mod error;
mod jwks;
mod keys;
#[cfg(test)]
#[path = "../tests/unit/tokens.rs"]
mod tests;

pub use error::{TokenError, TokensError};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How far the clocks of an identity provider and of an edge may be apart, in seconds.
const LEEWAY: u64 = 5;

/// The `typ` of the header of a device token.
const DEVICE_TYPE: &str = "keepstep-device";

/// What a user token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserClaims {
    /// Who it is.
    pub user: UserId,
    /// Whether it opens `/admin`.
    pub admin: bool,
    /// Its `exp`, in milliseconds; the leeway isn't in it.
    pub expires: Millis,
}

/// What a device token says. Still to be compared with what the store says about that device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceClaims {
    /// Whose device.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Main or sub.
    pub kind: DeviceKind,
    /// The credential version. A termination raises the device's, and then this token is dead.
    pub generation: u32,
}

/// A user token made by [`Tokens::issue_user`].
#[derive(Clone)]
pub struct IssuedToken {
    /// The token. Don't log it.
    pub token: String,
    /// Its `exp`, in milliseconds.
    pub expires: Millis,
}

/// Makes and verifies tokens. Cheap to clone; the last clone ends the task that keeps the public keys fresh.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    shared: Option<Ring>,
    jwks: Option<jwks::Jwks>,
    device: Ring,
    issuer: Option<String>,
    audience: Option<String>,
}

/// Shared secrets of one purpose: the first signs, all of them verify, so that they can be rotated.
struct Ring {
    sign: EncodingKey,
    verify: Vec<DecodingKey>,
}

impl Ring {
    fn new<'a>(first: &'a [u8], others: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let all = std::iter::once(first).chain(others);
        let verify = all.map(DecodingKey::from_secret).collect();
        Self { sign: EncodingKey::from_secret(first), verify }
    }

    fn verify<T: serde::de::DeserializeOwned>(
        &self,
        token: &str,
        rules: &Validation,
    ) -> Result<T, TokenError> {
        let mut refused = TokenError::Signature;
        for key in &self.verify {
            match decode(token, key, rules) {
                Ok(good) => return Ok(good.claims),
                Err(error) => refused = error.into(),
            }
            // Anything else is of a token that this one signed.
            if refused != TokenError::Signature {
                break;
            }
        }
        Err(refused)
    }
}

/// The claims of a user token. All loose: a claim of a wrong type must give the same sentence as an absent one.
#[derive(Deserialize)]
struct RawUser {
    sub: Option<Value>,
    exp: Option<Value>,
    iss: Option<Value>,
    admin: Option<Value>,
}

#[derive(Serialize)]
struct NewUser<'a> {
    sub: &'a UserId,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct RawDevice {
    sub: UserId,
    dev: DeviceId,
    kind: DeviceKind,
    #[serde(rename = "gen")]
    generation: u32,
    /// Seconds. For people who look into a token; nothing is decided by it.
    iat: u64,
}

/// Keys are never shown.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// Reads a JWKS file at once; a JWKS address is asked in the background, so that an identity provider that is away
    /// doesn't stop the start. With a JWKS it must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When there is no secret to sign device tokens with, or the JWKS file can't be read or holds no usable key.
    pub fn new(config: &TokenConfig) -> Result<Self, TokensError> {
        let (jwt, others) = (&config.jwt_secret, &config.other_jwt_secrets);
        let device = match (&config.token_secret, jwt) {
            (Some(secret), _) => {
                Ring::new(secret.expose(), config.other_token_secrets.iter().map(Secret::expose))
            }
            (None, Some(secret)) => {
                let first = derive_device_key(secret.expose())?;
                let others = others.iter().map(|secret| derive_device_key(secret.expose()));
                let others = others.collect::<Result<Vec<_>, _>>()?;
                Ring::new(&first, others.iter().map(<[u8; 32]>::as_slice))
            }
            (None, None) => return Err(TokensError::NoSecret),
        };
        Ok(Self(Arc::new(Inner {
            shared: jwt.as_ref().map(|jwt| Ring::new(jwt.expose(), others.iter().map(Secret::expose))),
            jwks: config
                .jwks
                .as_ref()
                .map(|source| {
                    jwks::Jwks::new(source, jwks::Pace { stale: config.jwks_stale, ..Default::default() })
                })
                .transpose()?,
            device,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
        })))
    }

    /// Verifies a user token. Waits only when its `kid` is unknown and the keys are due to be read again (5 s at most).
    ///
    /// # Errors
    ///
    /// A [`TokenError`]; all but [`TokenError::KeysUnavailable`] are final for this token.
    pub async fn verify_user(&self, token: &str) -> Result<UserClaims, TokenError> {
        let header = header(token)?;
        // The key would refuse it too, unless both secrets were set to the same text.
        if header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(DEVICE_TYPE)) {
            return Err(TokenError::WrongKind("a device token where a user token is needed"));
        }
        let rules = self.user_rules(header.alg);
        let claims: RawUser = match (header.alg, &self.0.shared, &self.0.jwks) {
            (Algorithm::HS256, Some(secrets), _) => secrets.verify(token, &rules)?,
            (Algorithm::EdDSA | Algorithm::ES256 | Algorithm::RS256, _, Some(jwks)) => {
                let kid = header.kid.as_deref().ok_or(TokenError::NoKeyId)?;
                let key = jwks.key(kid, header.alg).await?;
                decode(token, &key, &rules)?.claims
            }
            _ => return Err(TokenError::Algorithm),
        };
        // The library would also take an array that contains the issuer; RFC 7519 knows one text only.
        if let Some(issuer) = &self.0.issuer
            && claims.iss.as_ref().and_then(Value::as_str) != Some(issuer)
        {
            return Err(TokenError::Issuer);
        }
        let sub = claims.sub.as_ref().and_then(Value::as_str).ok_or(TokenError::Missing("sub"))?;
        Ok(UserClaims {
            user: sub.parse().map_err(TokenError::Subject)?,
            // Only the boolean: an identity provider's text "false" must not open anything.
            admin: claims.admin == Some(Value::Bool(true)),
            expires: claims.exp.as_ref().and_then(millis).ok_or(TokenError::Missing("exp"))?,
        })
    }

    /// Verifies a device token: that this server made it. Whether the device still lives, and with which credential
    /// version, isn't in it; the caller asks the store.
    ///
    /// # Errors
    ///
    /// A [`TokenError`], final for this token.
    pub fn verify_device(&self, token: &str) -> Result<DeviceClaims, TokenError> {
        let header = header(token)?;
        if header.typ.as_deref() != Some(DEVICE_TYPE) {
            return Err(TokenError::WrongKind("not a device token"));
        }
        if header.alg != Algorithm::HS256 {
            return Err(TokenError::Algorithm);
        }
        let mut rules = Validation::new(Algorithm::HS256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let raw: RawDevice = self.0.device.verify(token, &rules)?;
        Ok(DeviceClaims { user: raw.sub, device: raw.dev, kind: raw.kind, generation: raw.generation })
    }

    /// Makes a device token.
    ///
    /// # Errors
    ///
    /// None in practice; the library's signature has one.
    pub fn issue_device(&self, claims: &DeviceClaims) -> Result<String, TokensError> {
        let raw = RawDevice {
            sub: claims.user.clone(),
            dev: claims.device,
            kind: claims.kind,
            generation: claims.generation,
            iat: now_millis() / 1000,
        };
        let header = Header { typ: Some(DEVICE_TYPE.to_owned()), ..Header::new(Algorithm::HS256) };
        Ok(encode(&header, &raw, &self.0.device.sign)?)
    }

    /// Makes a user token (HS256), with the configured issuer and audience, for the command line and for the embedded
    /// mode. It is good for `ttl`, rounded up to whole seconds.
    ///
    /// # Errors
    ///
    /// When there is no shared secret (JWKS alone): then only the identity provider makes user tokens.
    pub fn issue_user(&self, user: &UserId, admin: bool, ttl: Duration) -> Result<IssuedToken, TokensError> {
        let secret = self.0.shared.as_ref().ok_or(TokensError::NoSharedSecret)?;
        let now = now_millis();
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let exp = now.saturating_add(ttl).div_ceil(1000);
        let claims = NewUser {
            sub: user,
            iat: now / 1000,
            exp,
            admin,
            iss: self.0.issuer.as_deref(),
            aud: self.0.audience.as_deref(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &secret.sign)?;
        Ok(IssuedToken { token, expires: exp.saturating_mul(1000) })
    }

    fn user_rules(&self, algorithm: Algorithm) -> Validation {
        let mut rules = Validation::new(algorithm);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.0.issuer {
            rules.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.0.audience {
            Some(audience) => {
                rules.set_audience(&[audience]);
                required.push("aud");
            }
            // Left on, it would refuse every token that has an `aud`.
            None => rules.validate_aud = false,
        }
        rules.set_required_spec_claims(&required);
        rules
    }
}

/// What both verifiers do first, before any key is touched.
fn header(token: &str) -> Result<Header, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    let header = decode_header(token).map_err(|_| TokenError::Header)?;
    // RFC 7515: who doesn't understand a critical extension must refuse. None is understood here.
    if header.crit.is_some() { Err(TokenError::Critical) } else { Ok(header) }
}

/// A numeric date in milliseconds; fractions are allowed by RFC 7519. The library has checked it before.
fn millis(seconds: &Value) -> Option<Millis> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // such a cast saturates, and a date is never below 0
    seconds
        .as_u64()
        .map(|s| s.saturating_mul(1000))
        .or_else(|| seconds.as_f64().map(|s| (s * 1000.0) as Millis))
}

/// The key of device tokens, for who sets only one secret: whoever holds it can't get back to the JWT secret.
fn derive_device_key(secret: &[u8]) -> Result<[u8; 32], TokensError> {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret)
        .expand(b"keepstep device token v1", &mut key)
        .map_err(|error| TokensError::Library(error.to_string()))?;
    Ok(key)
}
