//! Authentication. Tokens are read only here; none is ever logged.

use warp::http::{HeaderMap, header};

use super::Request;
use crate::{
    domain::{device::Device, id::DeviceId, id::UserId},
    protocol::{ErrorCode, Problem},
    sync::connect,
    tokens::{TokenError, UserClaims},
};

/// A client with a valid token.
#[derive(Debug)]
pub(super) enum Caller {
    /// A user token.
    User(UserClaims),
    /// The token of a device that isn't terminated.
    Device(Box<Device>),
}

impl Caller {
    pub(super) fn user(&self) -> &UserId {
        match self {
            Self::User(claims) => &claims.user,
            Self::Device(device) => &device.user,
        }
    }

    pub(super) fn device(&self) -> Option<DeviceId> {
        match self {
            Self::User(_) => None,
            Self::Device(device) => Some(device.id),
        }
    }
}

/// Returns the bearer token of the `Authorization` header.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn token(request: &Request) -> Result<&str, Problem> {
    bearer(&request.headers)
        .ok_or_else(|| Problem::new(ErrorCode::Unauthorized, "send a token: `Authorization: Bearer …`"))
}

/// Returns whether the request has a token, valid or not.
pub(super) fn is_given(request: &Request) -> bool {
    request.headers.contains_key(header::AUTHORIZATION)
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::KeysUnavailable => ErrorCode::Unavailable,
            _ => ErrorCode::Unauthorized,
        };
        Problem::new(code, error.to_string())
    }
}

/// Authenticates a user or device token.
///
/// # Errors
/// `unauthorized`, `forbidden` (the device was terminated), `unavailable`.
pub(super) async fn caller(request: &Request) -> Result<Caller, Problem> {
    let token = token(request)?;
    match request.context.tokens.verify_device(token) {
        Ok(claims) => {
            let device = connect::authorize(&request.context.core, &claims).await?;
            request.budget.set_user(&device.user);
            Ok(Caller::Device(Box::new(device)))
        }
        Err(TokenError::WrongKind(_)) => user(request).await.map(Caller::User),
        Err(error) => Err(error.into()),
    }
}

/// Authenticates a user token. A device token is refused.
///
/// # Errors
/// `unauthorized`, `unavailable`.
pub(super) async fn user(request: &Request) -> Result<UserClaims, Problem> {
    let claims = request.context.tokens.verify_user(token(request)?).await?;
    request.budget.set_user(&claims.user);
    Ok(claims)
}

/// Authenticates an admin's user token.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
pub(super) async fn admin(request: &Request) -> Result<UserClaims, Problem> {
    match caller(request).await? {
        Caller::User(claims) if claims.admin => Ok(claims),
        _ => {
            Err(Problem::new(ErrorCode::Forbidden, "this needs a user token with the claim \"admin\": true"))
        }
    }
}
