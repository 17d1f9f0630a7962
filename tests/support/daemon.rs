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

/// The answer of a ready server.
#[derive(Debug)]
pub enum Ready {
    /// 200 to a GET at this address of this path.
    Ok(String, &'static str),
    /// `+PONG` to a Redis's PING at this address.
    Pong(String),
}

/// The operations of each server here; they deref to it.
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
    /// Describes a server without starting it. `ending` is the longest time of an orderly stop.
    pub fn new(process: Process, folder: TempDir, ready: Ready, ending: Duration) -> Daemon {
        Daemon { process, folder, ready, ending }
    }

    /// Starts the described server, and waits until it is ready. If a port was taken between choosing and binding,
    /// tries once more with other ports.
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

    /// Returns the process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Returns the folder of its log, and of its data unless set otherwise.
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

    /// Restarts it on the same ports with its data; kills it first if it still runs.
    pub async fn restart(&mut self) {
        self.try_restart().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same; returns why it isn't ready, for example because it has ended again.
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
