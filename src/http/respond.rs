//! Responses: JSON, or a problem (RFC 9457).

use serde::Serialize;
use warp::{
    Reply,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::protocol::Problem;

/// No response may be cached.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Returns a handler's result as a response.
pub(super) fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| {
        if let Some(error) = &problem.cause {
            tracing::warn!(code = problem.code.as_str(), error = &**error, "a call failed");
        }
        let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        refuse(status, &problem)
    })
}

/// The body of a problem without the request's id, which [`super::trace`] adds.
#[derive(Debug, Clone)]
pub(super) struct Unnamed(serde_json::Value);

impl Unnamed {
    /// Returns the body with the request's id.
    pub(super) fn of_request(mut self, id: &str) -> String {
        self.0["request_id"] = id.into();
        self.0.to_string()
    }
}

/// Returns a problem with a status other than its code's.
pub(super) fn refuse(status: StatusCode, problem: &Problem) -> Response {
    let mut body = serde_json::json!({
        "type": "about:blank",
        "title": problem.code.title(),
        "status": status.as_u16(),
        "detail": problem.detail,
        "code": problem.code.as_str(),
    });
    if let Some(at) = problem.last_seen {
        body["last_seen"] = at.into();
    }
    let mut response = status.into_response();
    response.extensions_mut().insert(Unnamed(body));
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(seconds) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Returns a JSON response.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(body), status).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// Returns a JSON response with status 200.
pub(super) fn ok<T: Serialize>(body: &T) -> Response {
    json(StatusCode::OK, body)
}
