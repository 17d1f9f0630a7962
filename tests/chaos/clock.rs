//! A wall clock that jumps, for one process: libfaketime, told by a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The clock of one process. It is right until it is told to jump.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    folder: TempDir,
}

impl Clock {
    /// A clock, or why there can't be one here.
    pub fn new() -> Result<Clock, String> {
        let library =
            library().ok_or("libfaketime isn't installed (Debian, Ubuntu: apt-get install libfaketime)")?;
        let folder = tempfile::Builder::new().prefix("keepstep-clock-").tempdir();
        let clock = Clock { library, folder: folder.map_err(|error| error.to_string())? };
        clock.set(0).map_err(|error| error.to_string())?;
        Ok(clock)
    }

    /// So many seconds beside the true time, from now on (a second later at the most).
    pub fn set(&self, seconds: i64) -> std::io::Result<()> {
        // In one step: the process may read it at any time.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        std::fs::rename(new, self.file())
    }

    /// What a process needs in its environment. Its monotonic clock stays true, as a machine's does.
    pub fn env(&self) -> BTreeMap<String, String> {
        let preload = format!("{}:libc.so.6", self.library.display());
        [
            // libc in front of the allocator that Redis is linked with: jemalloc looks at the clock before it is there.
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// Where `scripts/lib.sh` says it is, else where Debian puts it.
fn library() -> Option<PathBuf> {
    if let Some(said) = std::env::var_os("KEEPSTEP_FAKETIME_LIB").filter(|said| !said.is_empty()) {
        return Some(PathBuf::from(said)).filter(|file| file.is_file());
    }
    let machines = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let files = machines.map(|machine| machine.join("faketime/libfaketimeMT.so.1"));
    files.chain([Path::new("/usr/lib/faketime/libfaketimeMT.so.1").to_path_buf()]).find(|file| file.is_file())
}

/// Removes what libfaketime leaves of a process that was killed.
pub fn tidy(pid: u32) {
    for file in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // One that ended in good order left nothing.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(file));
    }
}
