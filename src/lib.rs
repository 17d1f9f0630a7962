//! Keepstep keeps every device of a chat user in step.

pub mod cli;
pub mod config;
pub mod domain;
pub mod outbound;
pub mod tokens;

/// Stands in for the real one until the branches meet.
pub mod app {
    /// Runs the server.
    ///
    /// # Errors
    ///
    /// Always: this is the stand-in.
    #[allow(clippy::unused_async)]
    pub async fn run(_config: crate::config::Config) -> Result<(), String> {
        Err("this build has no server yet".to_owned())
    }
}
