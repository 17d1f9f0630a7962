//! A set of public keys (RFC 7517), read strictly.
//!
//! A published set may hold keys for other purposes; those are skipped. A key that is kept is known to be whole and of
//! one algorithm: the library builds keys without a look at their length, and one of its verifiers panics on an Ed25519
//! key that is too short.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde::Deserialize;

/// The keys by `kid`, and under each by algorithm.
#[derive(Default)]
pub(super) struct KeySet(HashMap<String, Vec<(Algorithm, Arc<DecodingKey>)>>);

/// What a set says about one `kid`.
pub(super) enum Found {
    Key(Arc<DecodingKey>),
    /// There is a key of that name, for another algorithm.
    OtherAlgorithm,
    None,
}

#[derive(Deserialize)]
struct RawSet {
    // Each on its own, so that a key of a kind from the future doesn't take the others along.
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. A broken set is an error; a key that can't be used is skipped, and said so in the log.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let set: RawSet = serde_json::from_slice(json).map_err(|error| format!("not a JWKS ({error})"))?;
        let mut keys = Self::default();
        for value in set.keys {
            let kid = value.get("kid").and_then(serde_json::Value::as_str).unwrap_or("(none)").to_owned();
            match serde_json::from_value::<RawKey>(value)
                .map_err(|error| error.to_string())
                .and_then(RawKey::build)
            {
                Ok((name, algorithm, key)) => {
                    let same = keys.0.entry(name).or_default();
                    if same.iter().any(|(other, _)| *other == algorithm) {
                        tracing::warn!(kid, "two published keys of one name: the first is used");
                    } else {
                        same.push((algorithm, Arc::new(key)));
                    }
                }
                Err(reason) => tracing::debug!(kid, error = reason, "a published key isn't used"),
            }
        }
        Ok(keys)
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Found {
        let Some(keys) = self.0.get(kid) else { return Found::None };
        match keys.iter().find(|(of, _)| *of == algorithm) {
            Some((_, key)) => Found::Key(Arc::clone(key)),
            None => Found::OtherAlgorithm,
        }
    }
}

impl RawKey {
    fn build(self) -> Result<(String, Algorithm, DecodingKey), String> {
        let kid = self.kid.filter(|kid| !kid.is_empty()).ok_or("it has no kid")?;
        if self.usage.is_some_and(|usage| usage != "sig") {
            return Err("it isn't for signatures".to_owned());
        }
        if self.key_ops.is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("it isn't for verifying".to_owned());
        }
        let text = |field: &Option<String>, name: &str| field.clone().ok_or(format!("it has no {name}"));
        let broken = |error: jsonwebtoken::errors::Error| error.to_string();
        let (algorithm, name, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => {
                let key = DecodingKey::from_ed_components(&text(&self.x, "x")?).map_err(broken)?;
                (Algorithm::EdDSA, "EdDSA", key)
            }
            ("EC", Some("P-256")) => {
                let key = DecodingKey::from_ec_components(&text(&self.x, "x")?, &text(&self.y, "y")?)
                    .map_err(broken)?;
                (Algorithm::ES256, "ES256", key)
            }
            ("RSA", _) => {
                let key = DecodingKey::from_rsa_components(&text(&self.n, "n")?, &text(&self.e, "e")?)
                    .map_err(broken)?;
                (Algorithm::RS256, "RS256", key)
            }
            _ => return Err("its type isn't one of Ed25519, P-256 and RSA".to_owned()),
        };
        if self.alg.is_some_and(|alg| alg != name) {
            return Err(format!("it isn't for {name}"));
        }
        let whole = match key.kind() {
            DecodingKeyKind::SecretOrDer(bytes) if algorithm == Algorithm::EdDSA => bytes.len() == 32,
            DecodingKeyKind::SecretOrDer(bytes) => bytes.len() == 65,
            // 2048 to 4096 bits: shorter ones can be factored, longer ones make verifying a way to keep a core busy.
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let bits = n.iter().skip_while(|byte| **byte == 0).count() * 8;
                (2048..=4096).contains(&bits) && (1..=4).contains(&e.len())
            }
        };
        if whole { Ok((kid, algorithm, key)) } else { Err("its length is wrong".to_owned()) }
    }
}
