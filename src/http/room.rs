//! What requests and their answers take of the memory. Of the room for both nobody takes more than leaves some for others;
//! what is small isn't counted. Who reads much takes turns with others.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes};
use warp::reply::Response;

use super::Request;
use crate::{
    domain::{
        fair::{Bounds, FairQueue, Turn},
        id::UserId,
        network::{Neighbourhood, Network},
        shares::{Holder, Share, Shares},
    },
    protocol::{ErrorCode, Problem},
    spans,
};

/// Bytes of bodies that are on their way, and of answers that are made or written, on one edge.
const BODIES: usize = 64 << 20;
const ANSWERS: usize = 64 << 20;
/// An answer of so many bytes is no more than what a connection takes anyway.
const SMALL: usize = 16 << 10;
/// Pages that are read from the store at once, of all and of one user. A page is much for the store, and it serves one call
/// after the other: whoever asks for hundreds at once waits for them, and nobody else.
const READS: Bounds = Bounds { at_once: 64, of_one: 2, longest: Duration::from_secs(10) };
/// Seconds after which a request that found no room may come again.
const AGAIN: u32 = 1;

fn crowded(detail: &'static str) -> Problem {
    Problem::new(ErrorCode::TooManyRequests, detail).retry_in(AGAIN)
}

/// Whose a request is, as far as it is known by then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// A user's.
    User(UserId),
    /// Nobody's yet.
    Address(Network),
}

impl Holder for Whose {
    fn neighbours(&self) -> Option<Neighbourhood> {
        match self {
            Self::User(_) => None,
            Self::Address(network) => Some(network.neighbourhood()),
        }
    }
}

/// The room of one edge.
#[derive(Debug, Clone)]
pub(super) struct Room {
    bodies: Shares<Whose>,
    answers: Shares<Whose>,
    reads: FairQueue<UserId>,
}

impl Default for Room {
    fn default() -> Self {
        Self { bodies: Shares::new(BODIES), answers: Shares::new(ANSWERS), reads: FairQueue::new(READS) }
    }
}

/// What is known of who asks, and what its answer may take.
#[derive(Debug)]
pub(super) struct Asking {
    room: Room,
    from: Network,
    user: OnceLock<UserId>,
    answer: Mutex<Option<Share<Whose>>>,
}

impl Asking {
    pub(super) fn new(room: &Room, from: Network) -> Self {
        Self { room: room.clone(), from, user: OnceLock::new(), answer: Mutex::default() }
    }

    /// It is this user.
    pub(super) fn is(&self, user: &UserId) {
        if self.user.set(user.clone()).is_ok() {
            spans::user_is_known(user);
        }
    }

    fn whose(&self) -> Whose {
        self.user.get().cloned().map_or(Whose::Address(self.from), Whose::User)
    }

    /// Room for a body, while it comes.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(super) fn body(&self, bytes: usize) -> Result<Share<Whose>, Problem> {
        self.room.bodies.take(&self.whose(), bytes).ok_or_else(|| {
            crowded("too many of your requests are on their way: wait for their answers, and try again")
        })
    }

    /// Room for an answer of about so many bytes, before they are read.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(super) fn answer(&self, bytes: usize) -> Result<(), Problem> {
        let share =
            self.room.answers.take(&self.whose(), bytes).ok_or_else(|| {
                crowded("too many answers are on their way to you: read them, and try again")
            })?;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
        Ok(())
    }

    /// Waits until the user may read a page.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(super) async fn turn(&self, user: &UserId) -> Result<Turn<UserId>, Problem> {
        let turn = self.room.reads.acquire(user).await;
        turn.ok_or_else(|| crowded("too many of your pages are being read: wait for them, and try again"))
    }

    /// The answer, which holds its room until the client has taken it, or the connection is over.
    ///
    /// # Errors
    /// `too_many_requests`: there is none.
    pub(super) fn answered(&self, response: Response) -> Result<Response, Problem> {
        let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
        if size.is_some_and(|size| size <= SMALL) {
            return Ok(response);
        }
        let taken = || self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut share = taken();
        if share.is_none() {
            self.answer(size.unwrap_or(SMALL))?;
            share = taken();
        }
        let (parts, body) = response.into_parts();
        // All of it is there.
        let body = body.collect().now_or_never().and_then(Result::ok);
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Ok(Response::from_parts(parts, Bytes::from_owner(Held { body, _share: share }).into()))
    }
}

/// An answer's bytes, with their room. What writes them keeps them, uncopied, until they are written.
struct Held {
    body: Bytes,
    _share: Option<Share<Whose>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Request {
    /// See [`Asking::answer`].
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), Problem> {
        self.asking.answer(bytes)
    }
}
