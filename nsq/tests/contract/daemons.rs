//! nsqd and nsqlookupd for one test each: on ports and in a folder of their own, ended with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use keepstep_nsq::{LookupdAdmin, NsqdAdmin};

/// The flags this project runs nsqd with.
pub const PROJECT_FLAGS: &[&str] =
    &["--mem-queue-size=0", "--sync-every=100000", "--sync-timeout=30s", "--queue-scan-selection-count=5000"];

/// How many pairs of ports are tried: other programs on the machine take ports, too.
const PORT_TRIES: usize = 5;

/// A port that is free and that no other test is given. Below the ports that the system gives to outgoing connections,
/// so that it is still free after a restart of its daemon.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + ((std::process::id().wrapping_mul(97)).wrapping_add(n) % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Folder(PathBuf);

impl Folder {
    fn new(what: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keepstep-{what}-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder must be writable");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A running daemon.
struct Daemon {
    child: Child,
    binary: String,
    args: Vec<String>,
    folder: Folder,
}

impl Daemon {
    fn start(variable: &str, name: &str, args: Vec<String>) -> Self {
        let binary = std::env::var(variable).unwrap_or_else(|_| name.to_owned());
        let folder = Folder::new(name);
        let child = Self::spawn(&binary, &args, &folder).unwrap_or_else(|error| {
            panic!(
                "{binary} can't be started ({error}): these tests need NSQ 1.3.0; put {name} into the PATH or name it \
                 in {variable}"
            )
        });
        Self { child, binary, args, folder }
    }

    fn spawn(binary: &str, args: &[String], folder: &Folder) -> std::io::Result<Child> {
        let log = File::options().create(true).append(true).open(folder.0.join("log"))?;
        let mut command = Command::new(binary);
        command.args(args).current_dir(&folder.0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn()
    }

    /// Waits until it answers. False: it has ended, most likely because somebody took its port in between.
    async fn ready(&mut self, answers: impl AsyncFn() -> bool) -> bool {
        let began = Instant::now();
        loop {
            let answered = answers().await;
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return false;
            }
            if answered {
                return true;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{} doesn't answer within 20 s", self.binary);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|s| s.success()), "kill {signal} failed");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Nsqd {
    daemon: Daemon,
    pub tcp: String,
    pub http: String,
    pub admin: NsqdAdmin,
}

impl Nsqd {
    /// With the flags of this project.
    pub async fn start() -> Self {
        Self::start_with(PROJECT_FLAGS).await
    }

    /// With other flags; the addresses are added.
    pub async fn start_with(flags: &[&str]) -> Self {
        for _ in 0..PORT_TRIES {
            let (tcp, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
            let mut args: Vec<String> = flags.iter().map(ToString::to_string).collect();
            args.extend([
                format!("--tcp-address={tcp}"),
                format!("--http-address={http}"),
                "--broadcast-address=127.0.0.1".to_owned(),
                "--log-level=warn".to_owned(),
            ]);
            let mut daemon = Daemon::start("KEEPSTEP_NSQD_BIN", "nsqd", args);
            let admin = NsqdAdmin::new(&http);
            if daemon.ready(async || admin.ping().await.is_ok()).await {
                return Self { daemon, tcp, http, admin };
            }
        }
        panic!("nsqd doesn't start; see its log in the temporary folder");
    }

    #[allow(dead_code, reason = "for the benchmark, which shares this file")]
    pub fn pid(&self) -> u32 {
        self.daemon.child.id()
    }

    /// `kill -9`, and nothing listens any more.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Stopped in good order; what it has saved is changed, and it starts again.
    #[allow(dead_code, reason = "the benchmark, which shares this file, changes nothing")]
    pub async fn start_again_with(&mut self, change: impl FnOnce(&std::path::Path)) {
        self.daemon.signal("-TERM");
        let ended = tokio::task::block_in_place(|| self.daemon.child.wait());
        ended.expect("nsqd ends");
        change(&self.daemon.folder.0);
        self.start_again().await;
    }

    /// Starts it again where it was, on the same ports.
    pub async fn start_again(&mut self) {
        let Self { daemon, admin, .. } = self;
        let child = Daemon::spawn(&daemon.binary, &daemon.args, &daemon.folder);
        daemon.child = child.expect("it could be started before");
        assert!(
            daemon.ready(async || admin.ping().await.is_ok()).await,
            "nsqd doesn't start again; see its log"
        );
    }

    /// Frozen: connections stay, nothing answers.
    pub fn freeze(&self) {
        self.daemon.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.daemon.signal("-CONT");
    }

    /// How many clients a channel has; `None` if there is no such channel.
    pub async fn clients(&self, topic: &str, channel: &str) -> Option<u64> {
        self.channel(topic, channel).await.map(|c| c.client_count)
    }

    pub async fn channel(&self, topic: &str, channel: &str) -> Option<keepstep_nsq::ChannelStats> {
        let filter = keepstep_nsq::StatsFilter { topic: Some(topic), channel: Some(channel), clients: true };
        let topics = self.admin.stats(filter).await.expect("nsqd answers");
        topics.into_iter().flat_map(|t| t.channels).find(|c| c.channel == channel)
    }

    pub async fn create(&self, topic: &str, channel: &str) {
        self.admin.create_topic(topic).await.expect("nsqd answers");
        self.admin.create_channel(topic, channel).await.expect("nsqd answers");
    }
}

pub struct Lookupd {
    _daemon: Daemon,
    pub tcp: String,
    pub admin: LookupdAdmin,
}

impl Lookupd {
    pub async fn start() -> Self {
        for _ in 0..PORT_TRIES {
            let (tcp, http) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
            let args = vec![
                format!("--tcp-address={tcp}"),
                format!("--http-address={http}"),
                "--broadcast-address=127.0.0.1".to_owned(),
            ];
            let mut daemon = Daemon::start("KEEPSTEP_NSQLOOKUPD_BIN", "nsqlookupd", args);
            let admin = LookupdAdmin::new(&http);
            if daemon.ready(async || admin.ping().await.is_ok()).await {
                return Self { _daemon: daemon, tcp, admin };
            }
        }
        panic!("nsqlookupd doesn't start; see its log in the temporary folder");
    }
}

/// Waits until `condition` holds, and fails after 20 s.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
