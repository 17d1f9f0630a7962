//! A Redis of one test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::clock::WallClock;
use super::daemon::{Daemon, Ready, daemon};
use super::net::free_port;
use super::process::{Process, program, temp_folder};
use super::wait::PATIENCE;

/// What a `kill -9` preserves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aof {
    /// Every acknowledged write.
    #[default]
    Always,
    /// Writes older than about a second.
    EverySecond,
    /// Nothing: Keepstep refuses to start on it.
    Off,
}

/// Options of a Redis.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// Its durability.
    pub aof: Aof,
    /// Further arguments, e.g. `["--maxmemory-policy", "allkeys-lru"]`; they win.
    pub args: Vec<String>,
    /// Whether it has its own wall clock, for [`Redis::set_clock`].
    pub own_clock: bool,
}

/// A Redis on a port and in a folder of its own.
#[derive(Debug)]
pub struct Redis {
    daemon: Daemon,
    port: u16,
    clock: Option<WallClock>,
}

daemon!(Redis);

impl Redis {
    /// Starts one as in production, before Keepstep has used it: append-only file with an fsync for every write, no
    /// eviction, keyspace events off.
    pub async fn start() -> Redis {
        Self::start_with(RedisOptions::default()).await
    }

    /// With other options.
    pub async fn start_with(options: RedisOptions) -> Redis {
        let program = program("KEEPSTEP_REDIS_BIN", "redis-server");
        let describe = || {
            let (port, folder) = (free_port(), temp_folder("redis"));
            let mut process = Process::new("redis", program.clone(), folder.path().join("redis.log"))
                .arg("--port")
                .arg(port.to_string())
                .arg("--dir")
                .arg(folder.path());
            let aof = match options.aof {
                Aof::Always => ["yes", "always"],
                Aof::EverySecond => ["yes", "everysec"],
                Aof::Off => ["no", "no"],
            };
            for arg in
                ["--bind", "127.0.0.1", "--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction"]
                    .into_iter()
                    .chain(["--appendonly", aof[0], "--appendfsync", aof[1]])
                    .chain(options.args.iter().map(String::as_str))
            {
                process = process.arg(arg);
            }
            let clock = options.own_clock.then(|| WallClock::new(folder.path()));
            if let Some(clock) = &clock {
                process = process.env(clock.env());
            }
            let ready = Ready::Pong(format!("127.0.0.1:{port}"));
            Redis { daemon: Daemon::new(process, folder, ready, Duration::from_secs(20)), port, clock }
        };
        Daemon::start(describe).await
    }

    /// `redis://127.0.0.1:port/`
    pub fn url(&self) -> String {
        format!("redis://{}/", self.addr())
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sets its clock ahead ("+30", "+8d") or behind ("-1h") of the machine's.
    pub async fn set_clock(&self, offset: &str) {
        self.clock.as_ref().expect("it was started with a clock of its own").set(offset);
        // An answer from after it: nothing is counted on that it did before.
        self.command(&["TIME"]).await.expect("Redis is there");
    }

    /// Copies its present data, as a backup would. Nobody may write meanwhile.
    pub fn copy(&self) -> TempDir {
        let copy = temp_folder("redis-copy");
        copy_files(&self.aof(), copy.path());
        copy
    }

    /// Restarts it on the same port with a copy of the data.
    pub async fn restart_with(&mut self, copy: &TempDir) {
        self.kill9();
        std::fs::remove_dir_all(self.aof()).expect("remove the append-only files");
        std::fs::create_dir(self.aof()).expect("make their folder");
        copy_files(copy.path(), &self.aof());
        self.restart().await;
    }

    /// Restarts it on the same port without data.
    pub async fn restart_empty(&mut self) {
        self.kill9();
        if self.aof().exists() {
            std::fs::remove_dir_all(self.aof()).expect("remove the append-only files");
        }
        let _ = std::fs::remove_file(self.folder().join("dump.rdb"));
        self.restart().await;
    }

    /// [`redis_command`] to this one.
    pub async fn command(&self, args: &[&str]) -> std::io::Result<String> {
        redis_command(&self.addr(), args).await
    }

    fn aof(&self) -> PathBuf {
        self.folder().join("appendonlydir")
    }
}

/// Sends one command, and returns the reply as text: a bulk or simple string as it is, a list with one item a line, nil
/// as an empty string, an error as `-ERR ...`. One connection per call, for checks of the internal state.
pub async fn redis_command(addr: &str, args: &[&str]) -> std::io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            request.push_str(&format!("${}\r\n{arg}\r\n", arg.len()));
        }
        stream.write_all(request.as_bytes()).await?;
        reply(&mut BufReader::new(stream)).await
    };
    timeout(PATIENCE, exchange).await?
}

fn copy_files(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).expect("read the append-only files") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("copy a file");
    }
}

/// Reads one reply of the Redis protocol, version 2. A list is its items in order.
async fn reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut items = Vec::new();
    let mut left = 1usize;
    while left > 0 {
        left -= 1;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(std::io::ErrorKind::UnexpectedEof)?;
        match (kind, rest.parse::<i64>().unwrap_or(-1)) {
            ("*", length) => left += usize::try_from(length).unwrap_or(0),
            ("$", length) => match usize::try_from(length) {
                Ok(length) => {
                    let mut bulk = vec![0; length + 2];
                    stream.read_exact(&mut bulk).await?;
                    items.push(String::from_utf8_lossy(&bulk[..length]).into_owned());
                }
                Err(_) => items.push(String::new()),
            },
            ("-", _) => items.push(line.to_owned()),
            _ => items.push(rest.to_owned()),
        }
    }
    Ok(items.join("\n"))
}
