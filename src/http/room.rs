//! Memory of request bodies and responses. A client's share leaves room for others; small ones aren't counted. Users who
//! read many pages take turns.

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

/// Bytes of bodies that are being read, and of responses that are made or written, on one edge.
const BODIES: usize = 64 << 20;
const ANSWERS: usize = 64 << 20;
/// A response up to this size isn't counted: a connection takes as much.
const SMALL: usize = 16 << 10;
/// Pages that are read from the store at once, of all users and of one. The store serves one call after the other, so a user
/// who asks for hundreds at once waits, and nobody else does.
const READS: Bounds = Bounds { at_once: 64, of_one: 2, longest: Duration::from_secs(10) };
/// Seconds after which a request that found no room may come again.
const AGAIN: u32 = 1;

fn too_many(detail: &'static str) -> Problem {
    Problem::new(ErrorCode::TooManyRequests, detail).retry_in(AGAIN)
}

/// Who sent a request, as far as known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Client {
    /// A user's.
    User(UserId),
    /// Not known yet: the address.
    Address(Network),
}

impl Holder for Client {
    fn neighbours(&self) -> Option<Neighbourhood> {
        match self {
            Self::User(_) => None,
            Self::Address(network) => Some(network.neighbourhood()),
        }
    }
}

/// The memory of one edge for bodies and responses.
#[derive(Debug, Clone)]
pub(super) struct Room {
    bodies: Shares<Client>,
    answers: Shares<Client>,
    reads: FairQueue<UserId>,
}

impl Default for Room {
    fn default() -> Self {
        Self { bodies: Shares::new(BODIES), answers: Shares::new(ANSWERS), reads: FairQueue::new(READS) }
    }
}

/// One request's client, and its share of memory.
#[derive(Debug)]
pub(super) struct RequestBudget {
    room: Room,
    from: Network,
    user: OnceLock<UserId>,
    answer: Mutex<Option<Share<Client>>>,
}

impl RequestBudget {
    pub(super) fn new(room: &Room, from: Network) -> Self {
        Self { room: room.clone(), from, user: OnceLock::new(), answer: Mutex::default() }
    }

    /// Notes the user.
    pub(super) fn set_user(&self, user: &UserId) {
        if self.user.set(user.clone()).is_ok() {
            spans::user_is_known(user);
        }
    }

    fn client(&self) -> Client {
        self.user.get().cloned().map_or(Client::Address(self.from), Client::User)
    }

    /// Reserves memory for a body.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(super) fn body(&self, bytes: usize) -> Result<Share<Client>, Problem> {
        self.room.bodies.take(&self.client(), bytes).ok_or_else(|| {
            too_many("too many of your requests are on their way: wait for their answers, and try again")
        })
    }

    /// Reserves about `bytes` for a response, before they are read.
    ///
    /// # Errors
    /// `too_many_requests`.
    pub(super) fn answer(&self, bytes: usize) -> Result<(), Problem> {
        let share =
            self.room.answers.take(&self.client(), bytes).ok_or_else(|| {
                too_many("too many answers are on their way to you: read them, and try again")
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
        turn.ok_or_else(|| too_many("too many of your pages are being read: wait for them, and try again"))
    }

    /// Returns the response, which holds its memory until the client has read it or the connection ends.
    ///
    /// # Errors
    /// `too_many_requests`.
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
        // The body is complete, so this doesn't wait.
        let body = body.collect().now_or_never().and_then(Result::ok);
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Ok(Response::from_parts(parts, Bytes::from_owner(Held { body, _share: share }).into()))
    }
}

/// A response's bytes and their share. hyper keeps them, uncopied, until they are written.
struct Held {
    body: Bytes,
    _share: Option<Share<Client>>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Request {
    /// See [`RequestBudget::answer`].
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), Problem> {
        self.budget.answer(bytes)
    }
}
