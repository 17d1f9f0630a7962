//! Answers: JSON, or a problem (RFC 9457).

use serde::Serialize;
use warp::{
    Reply,
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::protocol::Problem;

/// An answer is nobody's to keep: what it says may change the next moment.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A handler's result as a response.
pub(super) fn answer(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(|problem| {
        if let Some(error) = &problem.cause {
            tracing::warn!(code = problem.code.as_str(), error = &**error, "a call failed");
        }
        let status = StatusCode::from_u16(problem.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        refuse(status, &problem)
    })
}

/// A problem as the body of an answer, but for the id of its request: see [`super::trace`], which every answer passes.
#[derive(Debug, Clone)]
pub(super) struct Unnamed(serde_json::Value);

impl Unnamed {
    /// The body.
    pub(super) fn of_request(mut self, id: &str) -> String {
        self.0["request_id"] = id.into();
        self.0.to_string()
    }
}

/// A problem under another status than its code's own.
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

/// A JSON response.
pub(super) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    let mut response = warp::reply::with_status(warp::reply::json(body), status).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// `200`.
pub(super) fn ok<T: Serialize>(body: &T) -> Response {
    json(StatusCode::OK, body)
}
