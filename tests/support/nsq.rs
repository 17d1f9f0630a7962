//! An nsqd and an nsqlookupd of a test's own, with the configuration of production (`nsq/conf`).

use std::process::ExitStatus;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::net::{free_port, http, http_get};
use super::process::{Process, daemon, repository, temp_folder};

/// An nsqlookupd.
#[derive(Debug)]
pub struct Lookupd {
    process: Process,
    tcp: u16,
    http: u16,
    _folder: TempDir,
}

impl Lookupd {
    /// Starts one.
    pub async fn start() -> Lookupd {
        let program = daemon("KEEPSTEP_NSQLOOKUPD_BIN", "nsqlookupd");
        let mut why = String::new();
        for _ in 0..5 {
            let (tcp, http, folder) = (free_port(), free_port(), temp_folder("nsqlookupd"));
            let process = Process::new("nsqlookupd", program.clone(), folder.path().join("nsqlookupd.log"))
                .arg(format!("--config={}", repository("nsq/conf/nsqlookupd.cfg").display()))
                .arg("--broadcast-address=127.0.0.1")
                .arg(format!("--tcp-address=127.0.0.1:{tcp}"))
                .arg(format!("--http-address=127.0.0.1:{http}"));
            let mut lookupd = Lookupd { process, tcp, http, _folder: folder };
            match lookupd.run().await {
                Ok(()) => return lookupd,
                Err(reason) => why = reason,
            }
        }
        panic!("{why}");
    }

    /// The address nsqd registers at.
    pub fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.tcp)
    }

    /// The address to look up and delete at.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// The process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

    /// A POST that it answers with 200.
    pub async fn post(&self, path: &str) {
        let (status, answer) = http(&self.http(), "POST", path, "").await.expect("nsqlookupd answers");
        assert_eq!(status, 200, "{path}: {answer}");
    }

    /// Starts it on the same ports, killing it first if it still runs. It remembers nothing, and an
    /// nsqd needs up to 30 s (two of its pings) to tell it again.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.run().await.unwrap_or_else(|why| panic!("{why}"));
    }

    async fn run(&mut self) -> Result<(), String> {
        self.process.spawn();
        let http = self.http();
        self.process.ready(|| ping(&http)).await
    }
}

/// How to start an nsqd.
#[derive(Clone, Debug, Default)]
pub struct NsqdOptions {
    /// The TCP address of the nsqlookupd it registers at.
    pub lookupd: Option<String>,
    /// Where its data goes, if not to a temporary folder: a small file system, say.
    pub data: Option<std::path::PathBuf>,
    /// Further arguments, e.g. `["--msg-timeout=2s"]`; they win over `nsq/conf/nsqd.cfg`.
    pub args: Vec<String>,
}

/// An nsqd.
#[derive(Debug)]
pub struct Nsqd {
    process: Process,
    tcp: u16,
    http: u16,
    data: std::path::PathBuf,
    _folder: TempDir,
}

impl Nsqd {
    /// Starts one with the configuration of production.
    pub async fn start(lookupd: Option<&Lookupd>) -> Nsqd {
        Self::start_with(NsqdOptions { lookupd: lookupd.map(Lookupd::tcp), ..NsqdOptions::default() }).await
    }

    /// With other options.
    pub async fn start_with(options: NsqdOptions) -> Nsqd {
        static NODE: AtomicU16 = AtomicU16::new(0);
        let program = daemon("KEEPSTEP_NSQD_BIN", "nsqd");
        let mut why = String::new();
        for _ in 0..5 {
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
            let mut nsqd = Nsqd { process, tcp, http, data, _folder: folder };
            match nsqd.run().await {
                Ok(()) => return nsqd,
                Err(reason) => why = reason,
            }
        }
        panic!("{why}");
    }

    /// The address of NSQ's protocol.
    pub fn tcp(&self) -> String {
        format!("127.0.0.1:{}", self.tcp)
    }

    /// The address of its HTTP interface.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// The process, for signals and its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
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

    /// SIGTERM, and waits for its end: everything is saved.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.process.terminate(Duration::from_secs(60)).await
    }

    /// Starts it on the same ports with the data it left, killing it first if it still runs.
    pub async fn restart(&mut self) {
        self.process.kill9();
        self.run().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// The same with one more argument, which wins.
    pub async fn restart_with(&mut self, arg: &str) {
        self.process.add_arg(arg);
        self.restart().await;
    }

    /// Starts it on the same ports with nothing: killed, its disk lost.
    pub async fn restart_empty(&mut self) {
        self.process.kill9();
        for entry in std::fs::read_dir(&self.data).expect("read nsqd's data folder") {
            std::fs::remove_file(entry.expect("read nsqd's data folder").path()).expect("remove nsqd's data");
        }
        self.run().await.unwrap_or_else(|why| panic!("{why}"));
    }

    /// What `/stats?format=json` says, of one topic or all.
    pub async fn stats(&self, topic: Option<&str>) -> serde_json::Value {
        let topic = topic.map(|topic| format!("&topic={topic}")).unwrap_or_default();
        let path = format!("/stats?format=json&include_mem=false{topic}");
        let (status, body) = http_get(&self.http(), &path).await.expect("ask nsqd for its stats");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("nsqd's stats are JSON")
    }

    /// A POST that nsqd answers with 200.
    pub async fn post(&self, path: &str, body: &str) {
        let (status, answer) = http(&self.http(), "POST", path, body).await.expect("nsqd answers");
        assert_eq!(status, 200, "{path}: {answer}");
    }

    async fn run(&mut self) -> Result<(), String> {
        self.process.spawn();
        let http = self.http();
        self.process.ready(|| ping(&http)).await
    }
}

async fn ping(http: &str) -> bool {
    matches!(http_get(http, "/ping").await, Ok((200, _)))
}
