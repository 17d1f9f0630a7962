//! One flood: a fresh edge on a stack of its own, the pair before, the pair meanwhile, and the memory behind it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::kinds::Kind;
use super::pair::Pair;
use super::report::{Held, Outcome};
use super::support::{Edge, Stack};

/// How each is done.
#[derive(Debug)]
pub struct Plan {
    /// How long it floods.
    pub seconds: u64,
    /// How long the memory has to come back.
    pub calm: u64,
    /// The server; none: the one of this build.
    pub bin: Option<PathBuf>,
}

/// The edge has a core of its own, if there are two: what it can do is measured, and not what the flood takes from it by being
/// on the same machine.
const SERVER_CORE: usize = 0;
const OTHER_CORE: usize = 1;

/// The pair is measured for no longer than this before it.
const BEFORE: Duration = Duration::from_secs(30);

/// One of them.
pub fn one(kind: Kind, plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(flooded(kind, plan))
}

async fn flooded(kind: Kind, plan: &Plan) -> Outcome {
    let two = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if two {
        // What is started from here on inherits it.
        pin(std::process::id(), OTHER_CORE);
    }
    let mut stack = Stack::start().await;
    let mut edge = match &plan.bin {
        Some(bin) => Edge::start_program(bin.clone(), stack.edge()).await,
        None => Edge::start(stack.edge()).await,
    };
    let pid = edge.process().pid();
    if two {
        pin(pid, SERVER_CORE);
    }
    edge.ready().await;
    let pair = Pair::start(&edge.listen()).await;
    let mut flood = Flood::start(kind, &edge.listen()).await;
    sleep(Duration::from_secs(1)).await;
    let long = Duration::from_secs(plan.seconds);
    let before = pair.times(long.min(BEFORE)).await.expect("the pair goes on before the flood");
    let (memory, held) = (resident(pid), held(&mut stack).await);
    flood.begin();
    let (mut peak, ticks, begun) = (memory, ticks(pid), Instant::now());
    let watch = async {
        loop {
            peak = peak.max(resident(pid));
            sleep(Duration::from_millis(50)).await;
        }
    };
    let during = tokio::select! {
        times = pair.times(long) => times,
        () = watch => unreachable!("it watches for ever"),
    };
    let busy = (self::ticks(pid) - ticks) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    let did = flood.end().await;
    let calm = Instant::now() + Duration::from_secs(plan.calm);
    let mut after = resident(pid);
    while Instant::now() < calm && after as f64 > memory as f64 * 1.4 {
        sleep(Duration::from_millis(500)).await;
        after = resident(pid);
    }
    let held = [held, self::held(&mut stack).await];
    Outcome { kind, before, during, did, memory: [memory, peak.max(after), after], busy, held }
}

async fn held(stack: &mut Stack) -> Held {
    let info = stack.redis.command(&["INFO", "memory"]).await.expect("Redis tells");
    let store = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("it says how much");
    let mut held = Held { store: store.trim().parse().expect("bytes"), queues: 0, channels: 0 };
    for nsqd in &mut stack.nsqd {
        held.queues += resident(nsqd.process().pid()) + files(nsqd.folder());
        let stats = nsqd.stats(None).await;
        let topics = stats["topics"].as_array().into_iter().flatten();
        held.channels +=
            topics.filter_map(|topic| topic["channels"].as_array()).map(|of| of.len() as u64).sum::<u64>();
    }
    held
}

fn files(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // One may go meanwhile.
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => files(&entry.path()),
        Ok(it) => it.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// A process of its own, that gives way to others.
struct Flood {
    child: Child,
    said: Option<BufReader<ChildStdout>>,
}

impl Flood {
    async fn start(kind: Kind, edge: &str) -> Flood {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("nice")
            .args(["-n", "15"])
            .arg(program)
            .args(["flood", kind.name(), edge])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the flood");
        let said = BufReader::new(child.stdout.take().expect("its output"));
        let mut flood = Flood { child, said: Some(said) };
        let line = flood.line().await;
        assert_eq!(line, "ready\n", "the flood isn't ready");
        flood
    }

    /// What it says next. The pair talks meanwhile.
    async fn line(&mut self) -> String {
        let mut said = self.said.take().expect("its output");
        let reading = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            said.read_line(&mut line).map(|_| (said, line))
        });
        let read = timeout(Duration::from_secs(60), reading).await.expect("the flood says something");
        let (said, line) = read.expect("no panic").expect("its output");
        self.said = Some(said);
        line
    }

    fn begin(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"go\n").expect("begin the flood");
    }

    /// It hangs up all its connections, and tells what it did.
    async fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        serde_json::from_str(&self.line().await).unwrap_or(Value::Null)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pin(pid: u32, core: usize) {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut set = nix::sched::CpuSet::new();
    set.set(core).expect("a core");
    for task in tasks {
        let id = task.file_name().to_string_lossy().parse().expect("a thread's number");
        // A thread may have ended.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(id), &set);
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.expect("the edge runs") << 10
}

// Hundredths of a second in the processor.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<u64> = stat
        .rsplit(") ")
        .next()
        .into_iter()
        .flat_map(|rest| rest.split(' '))
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse().ok())
        .collect();
    fields.iter().sum()
}
