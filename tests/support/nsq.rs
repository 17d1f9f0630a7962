//! An nsqd and an nsqlookupd of one test, with the configuration of production (`nsq/conf`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::daemon::{Daemon, Ready, daemon};
use super::net::{free_port, http_ask, http_post};
use super::process::{Process, program, repository, temp_folder};
use super::wait::wait_until;

/// How long nsqd may take to stop: it saves everything first.
const ENDING: Duration = Duration::from_secs(60);

fn ping(http: u16) -> Ready {
    Ready::Ok(format!("127.0.0.1:{http}"), "/ping")
}

/// An nsqlookupd.
#[derive(Debug)]
pub struct Lookupd {
    daemon: Daemon,
    tcp: u16,
    http: u16,
}

daemon!(Lookupd);

impl Lookupd {
    /// Starts one. After a restart it remembers nothing until an nsqd registers again, within 30 s (two of its pings).
    pub async fn start() -> Lookupd {
        let program = program("KEEPSTEP_NSQLOOKUPD_BIN", "nsqlookupd");
        let describe = || {
            let (tcp, http, folder) = (free_port(), free_port(), temp_folder("nsqlookupd"));
            let process = Process::new("nsqlookupd", program.clone(), folder.path().join("nsqlookupd.log"))
                .arg(format!("--config={}", repository("nsq/conf/nsqlookupd.cfg").display()))
                .arg("--broadcast-address=127.0.0.1")
                .arg(format!("--tcp-address=127.0.0.1:{tcp}"))
                .arg(format!("--http-address=127.0.0.1:{http}"));
            Lookupd { daemon: Daemon::new(process, folder, ping(http), ENDING), tcp, http }
        };
        Daemon::start(describe).await
    }

    /// Returns the address at which nsqd registers.
    pub fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.tcp)
    }

    /// Returns the address for lookups and deletions.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// Makes a POST that must be answered with 200.
    pub async fn post(&self, path: &str) {
        let (status, answer) = http_post(&self.http(), path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
}

/// Options of an nsqd.
#[derive(Clone, Debug, Default)]
pub struct NsqdOptions {
    /// The TCP address of its nsqlookupd.
    pub lookupd: Option<String>,
    /// Its data folder, if not a temporary one: for example a small file system.
    pub data: Option<PathBuf>,
    /// Further arguments, e.g. `["--msg-timeout=2s"]`; they win over `nsq/conf/nsqd.cfg`.
    pub args: Vec<String>,
}

/// An nsqd.
#[derive(Debug)]
pub struct Nsqd {
    daemon: Daemon,
    tcp: u16,
    http: u16,
    data: PathBuf,
}

daemon!(Nsqd);

impl Nsqd {
    /// Starts one with the configuration of production.
    pub async fn start(lookupd: Option<&Lookupd>) -> Nsqd {
        Self::start_with(NsqdOptions { lookupd: lookupd.map(Lookupd::tcp), ..NsqdOptions::default() }).await
    }

    /// With other options.
    pub async fn start_with(options: NsqdOptions) -> Nsqd {
        static NODE: AtomicU16 = AtomicU16::new(0);
        let program = program("KEEPSTEP_NSQD_BIN", "nsqd");
        let describe = || {
            let (tcp, http, folder) = (free_port(), free_port(), temp_folder("nsqd"));
            let node = NODE.fetch_add(1, Ordering::Relaxed) % 1024;
            let data = options.data.clone().unwrap_or_else(|| folder.path().join("data"));
            std::fs::create_dir_all(&data).expect("make nsqd's data folder");
            let mut process =
                Process::new(format!("nsqd {node}"), program.clone(), folder.path().join("nsqd.log"))
                    .arg(format!("--config={}", repository("nsq/conf/nsqd.cfg").display()))
                    .arg(format!("--data-path={}", data.display()))
                    .arg(format!("--node-id={node}"))
                    .arg("--broadcast-address=127.0.0.1")
                    .arg(format!("--tcp-address=127.0.0.1:{tcp}"))
                    .arg(format!("--http-address=127.0.0.1:{http}"));
            if let Some(lookupd) = &options.lookupd {
                process = process.arg(format!("--lookupd-tcp-address={lookupd}"));
            }
            for arg in &options.args {
                process = process.arg(arg);
            }
            Nsqd { daemon: Daemon::new(process, folder, ping(http), ENDING), tcp, http, data }
        };
        Daemon::start(describe).await
    }

    /// Returns the address of NSQ's protocol.
    pub fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.tcp)
    }

    /// Returns the address of its HTTP interface.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// Restarts it with one more argument, which wins.
    pub async fn restart_with(&mut self, arg: &str) {
        self.process().add_arg(arg);
        self.restart().await;
    }

    /// Restarts it on the same ports after its disk was lost.
    pub async fn restart_empty(&mut self) {
        self.kill9();
        for entry in std::fs::read_dir(&self.data).expect("read nsqd's data folder") {
            std::fs::remove_file(entry.expect("read nsqd's data folder").path()).expect("remove nsqd's data");
        }
        self.restart().await;
    }

    /// Waits until nsqd's next start differs from this one: nsqd reports its start in whole seconds.
    pub async fn outlives_its_second(&self) {
        let started = self.stats(None).await["start_time"].as_u64().expect("a Unix time");
        wait_until("the second of nsqd's start to be over", Duration::from_secs(5), async || {
            let now = UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
            (now > started).then_some(())
        })
        .await;
    }

    /// Returns `/stats?format=json`, of one topic or all.
    pub async fn stats(&self, topic: Option<&str>) -> serde_json::Value {
        let topic = topic.map(|topic| format!("&topic={topic}")).unwrap_or_default();
        let path = format!("/stats?format=json&include_mem=false{topic}");
        let (status, body) = http_ask(&self.http(), &path).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("nsqd's stats are JSON")
    }

    /// Makes a POST that nsqd must answer with 200.
    pub async fn post(&self, path: &str, body: &str) {
        let (status, answer) = http_post(&self.http(), path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
}
