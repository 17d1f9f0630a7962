//! Passwords of groups: argon2id with its recommended sizes, off the async threads, a few at a time.

use std::sync::LazyLock;

use argon2::{Argon2, PasswordHasher, PasswordVerifier, password_hash::phc::PasswordHash};
use tokio::sync::Semaphore;

use crate::protocol::{ErrorCode, Problem};

// Each takes 19 MiB and some 20 ms: more at once than cores would only take memory.
static AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

pub(super) async fn hash(password: String) -> Result<String, Problem> {
    run(move || Argon2::default().hash_password(password.as_bytes()).map(|hash| hash.to_string()).ok())
        .await?
        .ok_or_else(failed)
}

pub(super) async fn matches(password: String, hash: String) -> Result<bool, Problem> {
    run(move || {
        PasswordHash::new(&hash)
            .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    })
    .await
}

async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let _turn = AT_ONCE.acquire().await.map_err(|_| failed())?;
    tokio::task::spawn_blocking(work).await.map_err(|_| failed())
}

fn failed() -> Problem {
    Problem::new(ErrorCode::Unavailable, "the password can't be checked now: try again")
}
