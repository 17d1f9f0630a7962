//! What comes with a request: a bounded body, strict JSON, the query, ids in paths.

use std::{collections::HashMap, pin::Pin, str::FromStr, time::Duration};

use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use warp::{Filter, http::header};

use super::{Request, listener::Unread};
use crate::protocol::{ErrorCode, Problem, parse_object};

/// A client has so long to send its body.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body that nobody has read yet: who asks is looked at first, so that whoever may not ask costs no memory.
pub(super) struct Body {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>,
    most: usize,
    // Noted when it isn't read to its end.
    unread: Option<Unread>,
}

/// A body of at most `most` bytes, whatever the headers say.
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
    /// The same where less is needed.
    pub(super) fn at_most(mut self, bytes: usize) -> Self {
        self.most = self.most.min(bytes);
        self
    }

    /// Strict JSON: an unknown, doubled or missing field is refused by the type itself.
    pub(super) async fn json<T: DeserializeOwned>(self, request: &Request) -> Result<T, Problem> {
        parse_object(&self.read(request).await?)
    }

    /// The same where no body at all is as good as an empty object.
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
        // What comes in pieces doesn't say how much it is.
        let _room = request.asking.body(declared.unwrap_or(self.most))?;
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

/// An id from a path: percent-encoding undone, then parsed. A wrong one is the field's fault.
///
/// # Errors
/// `bad_field`.
pub(super) fn id<T: FromStr<Err = crate::domain::id::IdError>>(text: &str) -> Result<T, Problem> {
    let text = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| Problem::new(ErrorCode::BadField, "an id in the path isn't UTF-8"))?;
    parse(&text)
}

/// An id that isn't encoded (any more).
///
/// # Errors
/// `bad_field`.
pub(super) fn parse<T: FromStr<Err = crate::domain::id::IdError>>(text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: crate::domain::id::IdError| Problem::new(ErrorCode::BadField, error.to_string()))
}

/// How many items a page is to have.
///
/// # Errors
/// `bad_field`, `bad_range`.
pub(super) fn limit(query: &Query, default: u64, most: usize) -> Result<usize, Problem> {
    let default = default.min(most as u64);
    let limit = query.number("limit")?.unwrap_or(default);
    match usize::try_from(limit) {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Problem::new(ErrorCode::BadRange, format!("limit is from 1 to {most}"))),
    }
}

/// The query's parameters; of a doubled one the last counts.
#[derive(Debug, Default)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let decode =
            |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(number) if number <= crate::domain::MAX_SAFE_INTEGER => Ok(Some(number)),
            Ok(_) => Err(Problem::new(ErrorCode::BadRange, format!("{name} is at most 2^53 - 1"))),
            Err(_) => Err(Problem::new(ErrorCode::BadField, format!("{name} is a whole number"))),
        }
    }

    /// `true`, `1` or just the name.
    pub(super) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(_) => Err(Problem::new(ErrorCode::BadField, format!("{name} is true or false"))),
        }
    }
}

/// One page of a list that is sorted by its key: `?limit=&after=`, answered `{items, next?}`.
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
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_its_numbers_checked() {
        let query = Query::parse("limit=10&name=a%20b+c&bad=1.5&flag&big=9007199254740992");
        assert_eq!(query.number("limit"), Ok(Some(10)));
        assert_eq!(query.get("name"), Some("a b c"));
        assert_eq!(query.number("bad").unwrap_err().code, ErrorCode::BadField);
        assert_eq!(query.number("big").unwrap_err().code, ErrorCode::BadRange);
        assert_eq!(query.flag("flag"), Ok(true));
    }

    #[test]
    fn pages_follow_each_other_without_gap() {
        let all: Vec<u32> = (0..7).collect();
        let key = |n: &u32| n.to_string();
        let (first, next) = page(&Query::parse("limit=3"), 10, all.clone(), key).unwrap();
        assert_eq!((first, next.as_deref()), (vec![0, 1, 2], Some("2")));
        let (second, next) = page(&Query::parse("limit=4&after=2"), 10, all.clone(), key).unwrap();
        assert_eq!((second, next), (vec![3, 4, 5, 6], None));
        assert_eq!(page(&Query::parse("limit=11"), 10, all, key).unwrap_err().code, ErrorCode::BadRange);
    }
}
