//! A server of one test: on free ports, ready when it says so, killed and frozen on demand, and restarted on the same
//! ports with its data.

use std::ops::DerefMut;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::net::http_get;
use super::process::Process;

/// What a server answers as soon as it is ready.
#[derive(Debug)]
pub enum Ready {
    /// 200 to a GET at this address of this path.
    Ok(String, &'static str),
    /// `+PONG` to a Redis's PING at this address.
    Pong(String),
}

/// What each server here can do; they deref to it.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    folder: TempDir,
    ready: Ready,
    ending: Duration,
}

/// Makes a type with a field `daemon` deref to it.
macro_rules! daemon {
    ($server:ty) => {
        impl std::ops::Deref for $server {
            type Target = $crate::support::Daemon;

            fn deref(&self) -> &Self::Target {
                &self.daemon
            }
        }

        impl std::ops::DerefMut for $server {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.daemon
            }
        }
    };
}
pub(super) use daemon;

impl Daemon {
    /// Describes one; nothing runs yet. `ending` is the longest that it may take to end in good order.
    pub fn new(process: Process, folder: TempDir, ready: Ready, ending: Duration) -> Daemon {
        Daemon { process, folder, ready, ending }
    }

    /// Starts what `describe` describes, and waits until it is ready. A port may be taken between looking and binding: then
    /// once more, with others.
    pub async fn start<T: DerefMut<Target = Daemon>>(describe: impl Fn() -> T) -> T {
        let mut left = 4;
        loop {
            let mut server = describe();
            match server.run().await {
                Ok(()) => return server,
                Err(why) if left > 0 && why.contains("in use") => left -= 1,
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// The process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where its log is, and its data unless it was told otherwise.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGSTOP: frozen.
    pub fn sigstop(&self) {
        self.process.sigstop();
    }

    /// SIGCONT.
    pub fn sigcont(&self) {
        self.process.sigcont();
    }

    /// SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(self.ending).await
    }

    /// Starts it on the same ports with the data it left, killing it first if it still runs.
    pub async fn restart(&mut self) {
        self.try_restart().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same; or why it isn't ready: it has ended again, say.
    pub async fn try_restart(&mut self) -> Result<(), String> {
        self.process.kill9();
        self.run().await
    }

    async fn run(&mut self) -> Result<(), String> {
        self.process.spawn();
        let ready = &self.ready;
        self.process.ready(|| ready.is_given()).await
    }
}

impl Ready {
    async fn is_given(&self) -> bool {
        match self {
            Ready::Ok(addr, path) => matches!(http_get(addr, path).await, Ok((200, _))),
            Ready::Pong(addr) => {
                let Ok(mut stream) = TcpStream::connect(addr).await else { return false };
                let mut answer = [0; 5];
                stream.write_all(b"PING\r\n").await.is_ok()
                    && matches!(
                        timeout(Duration::from_secs(1), stream.read_exact(&mut answer)).await,
                        Ok(Ok(_))
                    )
                    && &answer == b"+PONG"
            }
        }
    }
}
