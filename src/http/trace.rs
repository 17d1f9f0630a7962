//! Request ids (`x-request-id`, the client's or a new one) and traces (`traceparent`). Every response passes here, also that of
//! a request without a route.

use tracing::{Span, instrument::Instrument};
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    reply::Response,
};

use super::{paths, respond};
use crate::spans;

/// The header of the id, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Maximum length of a client's id.
const LONGEST: usize = 128;

/// The id of a request, of characters that are safe in any log, header or page.
#[derive(Debug, Clone)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own if there is one and it is plain; else a new one. What isn't plain is never told again.
    fn of(headers: &HeaderMap) -> Self {
        let own = only(headers, &X_REQUEST_ID).filter(|id| is_plain(id.as_bytes()));
        own.cloned().map_or_else(Self::random, Self)
    }

    fn random() -> Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let id = crate::rng::uuid().hyphenated().encode_lower(&mut buffer);
        // A UUID's characters are a header's.
        Self(HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("none")))
    }

    pub(super) fn as_str(&self) -> &str {
        // Both ways to make one give ASCII.
        self.0.to_str().unwrap_or_default()
    }
}

/// A request without a response yet.
pub(super) struct Traced {
    id: RequestId,
    span: Span,
}

impl Traced {
    /// Returns what is known of a request before its route.
    pub(super) fn new(method: &Method, path: &str, headers: &HeaderMap) -> Self {
        let id = RequestId::of(headers);
        let trace = only(headers, &TRACEPARENT).and_then(|value| trace_id(value.as_bytes()));
        let span = spans::request(paths::method(method), paths::template(path), id.as_str(), trace);
        Self { id, span }
    }

    pub(super) fn id(&self) -> &RequestId {
        &self.id
    }

    /// Waits for the response in the request's span, and adds the id.
    pub(super) async fn answered<E>(
        self,
        answer: impl Future<Output = Result<Response, E>>,
    ) -> Result<Response, E> {
        let response = answer.instrument(self.span).await;
        response.map(|response| named(response, &self.id))
    }
}

/// Adds the request's id to the response's header, and to its body if it is a problem.
fn named(mut response: Response, id: &RequestId) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<respond::Unnamed>() {
        *response.body_mut() = problem.of_request(id.as_str()).into();
    }
    response.headers_mut().insert(X_REQUEST_ID, id.0.clone());
    response
}

/// Returns the value of a header that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |b: &u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'@' | b'~')
    };
    (1..=LONGEST).contains(&id.len()) && id.iter().all(plain)
}

/// Returns the trace id of a `traceparent` (W3C Trace Context, version 00): `00-<32 hex>-<16 hex>-<2 hex>`, lower case, neither
/// id all zeros. None: it is something else.
fn trace_id(value: &[u8]) -> Option<&str> {
    let [b'0', b'0', b'-', rest @ ..] = value else { return None };
    let (trace, rest) = rest.split_at_checked(32)?;
    let [b'-', parent_and_flags @ ..] = rest else { return None };
    let (parent, rest) = parent_and_flags.split_at_checked(16)?;
    let [b'-', flags @ ..] = rest else { return None };
    let hex = |text: &[u8]| text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_set = |id: &[u8]| hex(id) && id.iter().any(|b| *b != b'0');
    let is_good = is_set(trace) && is_set(parent) && flags.len() == 2 && hex(flags);
    is_good.then(|| std::str::from_utf8(trace).ok()).flatten()
}

#[cfg(test)]
#[path = "../../tests/unit/http/trace.rs"]
mod tests;
