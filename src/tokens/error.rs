//! What can be wrong with a token, and with the keys. Sentences for the client and the operator; never the token.

use jsonwebtoken::errors::ErrorKind;

use crate::domain::id::IdError;

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Over [`MAX_TOKEN_BYTES`](super::MAX_TOKEN_BYTES).
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not `a.b.c`, no JSON header, or an `alg` that nobody knows (`none` is one).
    #[error(
        "the token isn't a JWT with a header that can be read and an algorithm of HS256, EdDSA, ES256 or RS256"
    )]
    Header,
    /// An algorithm that isn't accepted here, or not of the key that the token names.
    #[error("the token's algorithm isn't accepted here, or isn't the one of the key that it names")]
    Algorithm,
    /// A user token for a device token, or the reverse.
    #[error("this is {0}")]
    WrongKind(&'static str),
    /// `crit` in the header.
    #[error("the token's header has critical extensions, and none is understood here")]
    Critical,
    /// No `kid`.
    #[error("the token's header names no key (`kid`), so none can be chosen")]
    NoKeyId,
    /// A `kid` that isn't in the JWKS.
    #[error("the token names a key (`kid`) that isn't among the published ones")]
    UnknownKey,
    /// The `kid` isn't known, and the JWKS couldn't be read: not this token's fault, so let the client try again.
    #[error("the public keys can't be read at the moment, so this token can't be verified; try again soon")]
    KeysUnavailable,
    /// Not signed by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// Past `exp` and the leeway.
    #[error("the token has expired; get a new one")]
    Expired,
    /// Before `nbf`.
    #[error("the token isn't valid yet (`nbf`)")]
    NotYet,
    /// Another `iss`, or none.
    #[error("the token's issuer (`iss`) is missing or not the expected one")]
    Issuer,
    /// Another `aud`, or none.
    #[error("the token's audience (`aud`) is missing or doesn't contain the expected one")]
    Audience,
    /// A claim is absent or of a wrong type.
    #[error("the token's claim `{0}` is missing or of a wrong type")]
    Missing(&'static str),
    /// `sub` isn't a user id.
    #[error("the token's `sub` isn't a user id: {0}")]
    Subject(IdError),
    /// Anything else in it.
    #[error("the token's claims can't be read")]
    Claims,
}

impl From<jsonwebtoken::errors::Error> for TokenError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        match error.into_kind() {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYet,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                match claim.as_str() {
                    "exp" => Self::Missing("exp"),
                    "nbf" => Self::Missing("nbf"),
                    "sub" => Self::Missing("sub"),
                    "iss" => Self::Issuer,
                    "aud" => Self::Audience,
                    _ => Self::Claims,
                }
            }
            ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidKeyFormat => {
                Self::Algorithm
            }
            ErrorKind::Json(_) => Self::Claims,
            // Bad base64 in the signature or the claims.
            _ => Self::Signature,
        }
    }
}

/// Why tokens can't be made or verified at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// Nothing to sign device tokens with.
    #[error("no secret to sign device tokens with: set KEEPSTEP_TOKEN_SECRET or KEEPSTEP_JWT_SECRET")]
    NoSecret,
    /// Nothing to sign user tokens with.
    #[error(
        "user tokens are made with KEEPSTEP_JWT_SECRET, and it isn't set: get them from your identity provider"
    )]
    NoSharedSecret,
    /// The JWKS can't be used.
    #[error("KEEPSTEP_JWKS: {place}: {reason}")]
    Jwks {
        /// The file or the address, without credentials.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The JWKS is kept fresh by a task, and there is nowhere to run it.
    #[error("a JWKS can be used only inside a tokio runtime")]
    NoRuntime,
    /// The JWT library refused something that it never should.
    #[error("the token library failed: {0}")]
    Library(String),
}

impl From<jsonwebtoken::errors::Error> for TokensError {
    fn from(error: jsonwebtoken::errors::Error) -> Self {
        Self::Library(error.to_string())
    }
}
