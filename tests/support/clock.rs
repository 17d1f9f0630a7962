//! Sets the wall clock of one running process, with libfaketime. The monotonic clock is unchanged, as when an operator
//! or NTP sets a machine's clock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A clock with which one process is started.
#[derive(Clone, Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    /// Returns a correct clock, kept in a folder that outlives the process.
    pub fn new(folder: &Path) -> WallClock {
        let clock = WallClock { file: folder.join("clock") };
        clock.set("+0");
        clock
    }

    /// Returns why there can be no clock here, if so.
    pub fn lacking() -> Option<&'static str> {
        library().is_none().then_some(LACKING)
    }

    /// Sets it ahead ("+30", "+8d") or behind ("-1h") of the machine's clock from now on.
    pub fn set(&self, offset: &str) {
        // In one step: the process may look at any moment, and nothing is no clock.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).expect("write the clock");
        std::fs::rename(&new, &self.file).expect("set the clock");
    }

    /// Returns the environment that the process must have.
    pub fn env(&self) -> BTreeMap<String, String> {
        // The C library's own malloc behind it: jemalloc, which Redis brings, asks for the time before libfaketime is up.
        let library = library().unwrap_or_else(|| panic!("{LACKING}"));
        let preload = format!("{}:libc.so.6", library.display());
        [
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

const LACKING: &str = "libfaketime is missing: run scripts/setup, or install it (Debian, Ubuntu: apt-get install \
                       libfaketime) and set KEEPSTEP_FAKETIME to its libfaketimeMT.so.1";

/// Returns the path of libfaketime: that in `KEEPSTEP_FAKETIME`, else where a system's packages put it.
fn library() -> Option<PathBuf> {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    if let Some(path) = std::env::var_os("KEEPSTEP_FAKETIME").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let folders = ["/usr/lib", "/usr/local/lib", "/usr/lib64"].map(PathBuf::from).into_iter();
    let mut all = folders.flat_map(|folder| {
        let inner = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        let inner: Vec<PathBuf> = inner.map(|entry| entry.path()).collect();
        std::iter::once(folder).chain(inner).map(|folder| folder.join(NAME))
    });
    all.find(|file| file.is_file())
}

/// Removes what libfaketime leaves in the shared memory of a killed process.
pub(super) fn tidy(pid: u32) {
    for file in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // Not there, if it had no clock of its own.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(file));
    }
}
