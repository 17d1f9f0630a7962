//! Hashes passwords of groups: argon2id with its recommended sizes, off the async threads, a few at a time, users taking turns.
//!
//! A hash that has begun can't be stopped. So it keeps its place and its memory until it is done, whether or not anybody still
//! waits for it: hanging up gains nothing. It runs in a thread of its own with a low priority.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::super::lock;
use crate::{
    domain::id::UserId,
    protocol::{ErrorCode, Problem},
};

/// Each takes 19 MiB and some 20 ms: more at once than cores would only use memory.
const AT_ONCE: usize = 2;
/// Hashes that run or wait, of all, and of one user. One of a user's runs, or waits for a core; the others wait for that one.
const PLACES: usize = 128;
const OWN_PLACES: usize = 4;
/// The longest wait of a hash for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Its share of a core when others want it, as `nice` counts: a tenth.
#[cfg(target_os = "linux")]
const GIVES_WAY: i32 = 10;
/// Seconds after which a refused caller may ask again.
const AGAIN: u32 = 2;

// One per process, as the cores are.
static TURNS: LazyLock<Arc<Turns>> = LazyLock::new(|| Turns::new(PATIENCE));

/// Returns a password's hash, as stored.
pub(super) async fn hash(user: &UserId, password: String) -> Result<String, Problem> {
    TURNS
        .run(user, move || {
            Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).ok()
        })
        .await?
        .ok_or_else(failed)
}

/// Returns whether it is the password of a stored hash.
pub(super) async fn matches(user: &UserId, password: String, hash: String) -> Result<bool, Problem> {
    TURNS
        .run(user, move || {
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
}

fn failed() -> Problem {
    Problem::new(ErrorCode::Unavailable, "the password can't be checked now: try again")
}

/// Running and waiting hashes.
#[derive(Debug)]
struct Turns {
    running: Arc<Semaphore>,
    patience: Duration,
    users: Mutex<HashMap<UserId, Own>>,
}

/// The hashes of one user.
#[derive(Debug)]
struct Own {
    places: usize,
    turn: Arc<Semaphore>,
}

/// One hash that runs or waits, until dropped.
#[derive(Debug)]
struct Place {
    turns: Arc<Turns>,
    user: UserId,
    turn: Arc<Semaphore>,
}

impl Turns {
    fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { running: Arc::new(Semaphore::new(AT_ONCE)), patience, users: Mutex::default() })
    }

    fn enter(self: &Arc<Self>, user: &UserId) -> Option<Place> {
        let mut users = lock(&self.users);
        let all: usize = users.values().map(|own| own.places).sum();
        let own = users.get(user).map_or(0, |own| own.places);
        if all >= PLACES || own >= OWN_PLACES {
            return None;
        }
        let fresh = || Own { places: 0, turn: Arc::new(Semaphore::new(1)) };
        let own = users.entry(user.clone()).or_insert_with(fresh);
        own.places += 1;
        Some(Place { turns: self.clone(), user: user.clone(), turn: own.turn.clone() })
    }

    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        user: &UserId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || {
            let detail = "too many passwords are being checked: try again in a moment";
            Problem::new(ErrorCode::TooManyRequests, detail).retry_in(AGAIN)
        };
        let place = self.enter(user).ok_or_else(busy)?;
        let permits = tokio::time::timeout(self.patience, place.turn()).await.map_err(|_| busy())?;
        let permits = permits.map_err(|_| failed())?;
        let work = move || {
            let _held = (permits, place);
            work()
        };
        begin(work).map_err(|_| failed())?.await.map_err(|_| failed())
    }
}

/// Runs work that occupies a core; only its user waits for it.
fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<oneshot::Receiver<T>> {
    let (done, result) = oneshot::channel();
    let work = move || {
        // On Linux this is the thread's own. If it fails, the work is done all the same.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(GIVES_WAY);
        // The caller may have gone.
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("password".into()).spawn(work)?;
    Ok(result)
}

impl Place {
    /// The user's turn first, so that no more than one of a user's waits in the common queue.
    async fn turn(&self) -> Result<[OwnedSemaphorePermit; 2], tokio::sync::AcquireError> {
        let own = self.turn.clone().acquire_owned().await?;
        Ok([own, self.turns.running.clone().acquire_owned().await?])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = lock(&self.turns.users);
        if let Some(own) = users.get_mut(&self.user) {
            own.places -= 1;
            if own.places == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/sync/membership/password.rs"]
mod tests;
