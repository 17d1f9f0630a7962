//! CORS: pages of `KEEPSTEP_ALLOWED_ORIGINS` may call the API, because a web session registers before it connects. Tokens
//! are in a header, never in a cookie, so credentials aren't allowed.

use warp::{
    Reply,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::respond::answer;
use crate::{
    config::AllowedOrigins,
    protocol::{ErrorCode, Problem},
};

/// Adds the headers that let an allowed page read the response.
pub(super) fn allow(origins: &AllowedOrigins, headers: &HeaderMap, mut response: Response) -> Response {
    if let Some(origin) = allowed(origins, headers) {
        let out = response.headers_mut();
        out.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        out.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after, x-request-id"),
        );
        out.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}

/// Checks the origin of a request without a token, which needs no preflight.
///
/// # Errors
/// `forbidden`.
pub(super) fn may_ask(origins: &AllowedOrigins, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if origins.allows(text(header::ORIGIN), text(header::HOST)) {
        return Ok(());
    }
    let detail = "this page's origin may not connect: add it to KEEPSTEP_ALLOWED_ORIGINS";
    Err(Problem::new(ErrorCode::Forbidden, detail))
}

/// Answers a preflight request.
pub(super) fn preflight(origins: &AllowedOrigins, headers: &HeaderMap) -> Response {
    if allowed(origins, headers).is_none() {
        let detail = "this page's origin may not call: add it to KEEPSTEP_ALLOWED_ORIGINS";
        return answer(Err(Problem::new(ErrorCode::Forbidden, detail)));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let out = response.headers_mut();
    out.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    let names = "authorization, content-type, traceparent, tracestate, x-link-secret, x-request-id";
    let names = HeaderValue::from_static(names);
    out.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    out.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    allow(origins, headers, response)
}

// Returns the origin if it is another one and allowed.
fn allowed<'a>(origins: &AllowedOrigins, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    (*origins != AllowedOrigins::SameOrigin && origins.allows(origin.to_str().ok(), host)).then_some(origin)
}

#[cfg(test)]
#[path = "../../tests/unit/http/cors.rs"]
mod tests;
