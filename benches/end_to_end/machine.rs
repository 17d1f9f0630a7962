//! The machine: what it is, which core runs what, and what a process costs. All of it is Linux; elsewhere nothing is
//! pinned and costs aren't known, which the report says.

use std::fs;

/// Where the servers run: all of them together.
pub const SERVERS: usize = 0;
/// Where the load comes from.
pub const LOAD: usize = 1;

/// Puts this thread, and every process it starts from now on, onto one core. False: that can't be done here.
pub fn pin(core: usize) -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::sched::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        cores() > 1 && set.set(core).is_ok() && sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        false
    }
}

/// How many cores this process was given at its start.
pub fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// `2 x Intel(R) Xeon(R) Processor, 23 GiB, Ubuntu 24.04 (Linux 6.8)`
pub fn name() -> String {
    let field = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key))?.to_owned();
        Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
    };
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map_or(String::new(), |kib| format!(", {} GiB", kib >> 20));
    let system = field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| std::env::consts::OS.to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} x {cpu}{memory}, {system} (kernel {})", cores(), kernel.trim())
}

/// Processor time that a process has used, in seconds.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is numbers.
    let mut numbers = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = numbers.next()?.parse().ok()?;
    let system: f64 = numbers.next()?.parse().ok()?;
    // USER_HZ is 100 on every Linux that we run on.
    Some((user + system) / 100.0)
}

/// Connections that are open to a port of this machine.
pub fn connections(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let (table, port) = (fs::read_to_string("/proc/net/tcp").unwrap_or_default(), format!(":{port:04X}"));
    let is_to = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some(ESTABLISHED)
    };
    table.lines().filter(is_to).count()
}

/// Memory that a process holds, in KiB.
pub fn rss_kib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().split(' ').next()?.parse().ok()
}
