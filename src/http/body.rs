//! What a request brings: a bounded body, strict JSON, the query, ids in paths.

use std::{collections::HashMap, ops::RangeInclusive, pin::Pin, str::FromStr, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use warp::{Filter, http::header};

use super::{Request, listener::Unread};
use crate::protocol::{ErrorCode, Problem, parse_object};

/// Time for a client to send its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body that isn't read yet. A request is authorised first, so that one that is refused costs no memory.
pub(super) struct Body {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>,
    most: usize,
    // Noted unless the body was read to its end.
    unread: Option<Unread>,
}

/// Extracts the body, of which at most `most` bytes are read, whatever the headers say.
pub(super) fn unread(most: usize) -> impl Filter<Extract = (Body,), Error = warp::Rejection> + Clone {
    warp::body::stream().and(warp::ext::optional::<Unread>()).map(move |stream, unread| Body {
        stream: Box::pin(StreamExt::map(stream, |chunk: Result<_, _>| chunk.map(bytes_of))),
        most,
        unread,
    })
}

fn bytes_of(mut chunk: impl Buf) -> Bytes {
    chunk.copy_to_bytes(chunk.remaining())
}

impl Body {
    /// Lowers the maximum size.
    pub(super) fn at_most(mut self, bytes: usize) -> Self {
        self.most = self.most.min(bytes);
        self
    }

    /// Reads strict JSON: the type refuses an unknown, doubled or missing field.
    pub(super) async fn json<T: DeserializeOwned>(self, request: &Request) -> Result<T, Problem> {
        parse_object(&self.read(request).await?)
    }

    /// Reads strict JSON; an empty body is an empty object.
    pub(super) async fn json_or_nothing<T: DeserializeOwned + Default>(
        self,
        request: &Request,
    ) -> Result<T, Problem> {
        let body = self.read(request).await?;
        if body.is_empty() { Ok(T::default()) } else { parse_object(&body) }
    }

    async fn read(mut self, request: &Request) -> Result<Vec<u8>, Problem> {
        let declared = request.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let declared = declared.and_then(|text| text.parse::<u64>().ok());
        let declared = declared.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
        if declared.is_some_and(|length| length > self.most) {
            return Err(self.too_large());
        }
        // A chunked body declares no length.
        let _room = request.budget.body(declared.unwrap_or(self.most))?;
        match tokio::time::timeout(PATIENCE, self.collect()).await {
            Ok(body) => {
                let body = body?;
                self.unread = None;
                Ok(body)
            }
            Err(_) => Err(Problem::new(ErrorCode::BadJson, "the body didn't come in time")),
        }
    }

    async fn collect(&mut self) -> Result<Vec<u8>, Problem> {
        let mut all = Vec::new();
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(|_| Problem::new(ErrorCode::BadJson, "the body broke off"))?;
            if all.len() + chunk.len() > self.most {
                return Err(self.too_large());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn too_large(&self) -> Problem {
        Problem::new(ErrorCode::TooLarge, format!("a body has at most {} bytes here", self.most))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(unread) = &self.unread {
            unread.note();
        }
    }
}

/// Decodes and parses an id from a path.
///
/// # Errors
/// `bad_field`.
pub(super) fn id<T: FromStr<Err = crate::domain::id::IdError>>(text: &str) -> Result<T, Problem> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::new(ErrorCode::BadField, "an id in the path isn't UTF-8"))?;
    parse(&text)
}

/// Parses an id that isn't percent-encoded.
///
/// # Errors
/// `bad_field`.
pub(super) fn parse<T: FromStr<Err = crate::domain::id::IdError>>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: crate::domain::id::IdError| Problem::new(ErrorCode::BadField, error.to_string()))
}

/// Returns the number of items on a page.
///
/// # Errors
/// `bad_field`, `bad_range`.
pub(super) fn limit(query: &Query, default: u64, most: usize) -> Result<usize, Problem> {
    let limit = query.number("limit", 1..=most as u64)?.unwrap_or(default);
    Ok(usize::try_from(limit).unwrap_or(most).min(most))
}

/// The query's parameters; of a doubled one the last counts.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns a whole number in a range.
    ///
    /// # Errors
    /// `bad_field`, `bad_range`.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            Ok(_) => {
                let detail = format!("{name} is from {} to {}", range.start(), range.end());
                Err(Problem::new(ErrorCode::BadRange, detail))
            }
            Err(_) => Err(Problem::new(ErrorCode::BadField, format!("{name} is a whole number"))),
        }
    }

    /// Returns whether a parameter is `true`, `1` or just the name.
    ///
    /// # Errors
    /// `bad_field`.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::new(ErrorCode::BadField, format!("{name} is true or false"))),
        }
    }
}

/// Returns the page `?limit=&after=` of a list that is sorted by its key, and the `next` behind it.
///
/// # Errors
/// `bad_field`, `bad_range`.
pub(super) fn page<T>(
    query: &Query,
    most: usize,
    items: Vec<T>,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let limit = limit(query, 100, most)?;
    let start = match query.get("after") {
        None => 0,
        Some(after) => match items.iter().position(|item| key(item) == after) {
            Some(at) => at + 1,
            None => return Err(Problem::new(ErrorCode::BadField, "after is the `next` of the page before")),
        },
    };
    let more = items.len() > start + limit;
    let page: Vec<T> = items.into_iter().skip(start).take(limit).collect();
    let next = more.then(|| page.last().map(&key)).flatten();
    Ok((page, next))
}

#[cfg(test)]
#[path = "../../tests/unit/http/body.rs"]
mod tests;
