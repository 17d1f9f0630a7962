//! A process that can be restarted: its command, its log, and the signals that tests send it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

/// How long a process may take to answer after its start. Generous, because CI machines are slow and shared.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// A program with its arguments, running or not. Killed on drop.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    log: PathBuf,
    terminal: bool,
    child: Option<Child>,
}

impl Process {
    /// Describes a process without starting it. Its standard output and error go to `log`, appended over restarts.
    pub fn new(name: impl Into<String>, program: PathBuf, log: PathBuf) -> Self {
        Process {
            name: name.into(),
            program,
            args: Vec::new(),
            env: BTreeMap::new(),
            log,
            terminal: false,
            child: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an argument for its next start.
    pub fn add_arg(&mut self, arg: impl Into<OsString>) {
        self.args.push(arg.into());
    }

    /// Sets the environment, in addition to the inherited one without any `KEEPSTEP_` variable: the shell of a test
    /// must not affect it.
    pub fn env(mut self, env: BTreeMap<String, String>) -> Self {
        self.env = env;
        self
    }

    /// Makes its standard output a terminal; the output is in the log all the same.
    pub fn on_a_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Starts it, also a second time.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} is running already", self.name);
        let open = || OpenOptions::new().create(true).append(true).open(&self.log);
        let (out, err) = (open().expect("open the log"), open().expect("open the log"));
        let mut command = Command::new(&self.program);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KEEPSTEP_"))
        {
            command.env_remove(name);
        }
        command.args(&self.args).envs(&self.env).stdin(Stdio::null()).stdout(out).stderr(err);
        if self.terminal {
            let terminal = nix::pty::openpty(None, None).expect("a terminal");
            let (mut shown, mut log) = (std::fs::File::from(terminal.master), open().expect("open the log"));
            command.stdout(terminal.slave);
            // Ends with the process: then there is nothing more to be read.
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = shown.read(&mut buffer) {
                    let text: Vec<u8> =
                        buffer[..length].iter().copied().filter(|byte| *byte != b'\r').collect();
                    let _ = log.write_all(&text);
                }
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("start {:?}: {error}", self.program));
        self.child = Some(child);
    }

    /// Returns the pid of a running process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} isn't running", self.name)).id()
    }

    /// Returns whether it was started and isn't known to have ended.
    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none() && self.child.is_some()
    }

    /// Returns its exit status, if it ended by itself.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("wait for a child")
    }

    /// SIGKILL, and waits until it is gone. Works on a frozen process, too; no-op if it doesn't run.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only if it has ended already, which `wait` then tells.
            let _ = child.kill();
            let _ = child.wait();
            super::clock::tidy(child.id());
        }
    }

    /// SIGTERM, and waits until it has ended. Panics if it hasn't within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let Some(status) = self.wait(limit).await else {
            panic!("{} didn't end within {limit:?} of SIGTERM\n{}", self.name, self.log_tail(60));
        };
        status
    }

    /// Waits until it has ended by itself; `None` if it still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                self.child = None;
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP: frozen, its connections open and silent.
    pub fn sigstop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT: continues.
    pub fn sigcont(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().try_into().expect("a pid is positive"));
        kill(pid, signal).unwrap_or_else(|error| panic!("{signal} to {} ({pid}): {error}", self.name));
    }

    /// Waits until `ask` succeeds; otherwise returns the reason: the process ended, or the time is over.
    pub async fn ready<F>(&mut self, mut ask: impl FnMut() -> F) -> Result<(), String>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + START_LIMIT;
        while !ask().await {
            if let Some(status) = self.exit_status() {
                self.child = None;
                return Err(format!("{} ended at its start: {status}\n{}", self.name, self.log_tail(60)));
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{} isn't ready after {START_LIMIT:?}\n{}",
                    self.name,
                    self.log_tail(60)
                ));
            }
            sleep(Duration::from_millis(10)).await;
        }
        // Another process may have taken the port and answered instead.
        match self.exit_status() {
            Some(status) => {
                self.child = None;
                Err(format!("{} ended at its start: {status}\n{}", self.name, self.log_tail(60)))
            }
            None => Ok(()),
        }
    }

    /// Returns its whole output, over all starts.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the end of its output, with a heading.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        let tail = all[all.len().saturating_sub(lines)..].join("\n");
        format!("--- the end of the log of {} ---\n{tail}\n---", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() && !self.log().is_empty() {
            eprintln!("{}", self.log_tail(40));
        }
    }
}

/// Returns the program that a variable names, else the one of `scripts/setup`, else the one of that name in `PATH`.
pub fn program(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable}={} isn't there: run scripts/setup", path.display());
        return path;
    }
    let built = find_upwards(&format!(".cache/bin/{name}"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = || std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    built.or_else(in_path).unwrap_or_else(|| {
        panic!("{name} is missing: run scripts/test, or scripts/setup and export {variable}=<the program>")
    })
}

/// Returns the path of a file of the repository, whichever crate the test is built from.
pub fn repository(path: &str) -> PathBuf {
    find_upwards(path).unwrap_or_else(|| panic!("{path} isn't in the repository"))
}

fn find_upwards(path: &str) -> Option<PathBuf> {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_root.ancestors().map(|folder| folder.join(path)).find(|candidate| candidate.exists())
}

/// Returns a temporary folder for one process.
pub fn temp_folder(name: &str) -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("keepstep-{name}-")).tempdir().expect("make a temporary folder")
}
