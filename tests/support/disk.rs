//! A small file system of one test, to be filled up.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::temp_folder;

/// A tmpfs. Unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs.
    pub fn mount(mebibytes: u32) -> SmallDisk {
        let folder = temp_folder("disk");
        let size = format!("size={mebibytes}m");
        let mounted =
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()));
        if let Err(why) = mounted {
            panic!(
                "this test fills up a small file system and needs the right to mount one (root, or CAP_SYS_ADMIN): {why}"
            );
        }
        SmallDisk { folder }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the free space.
    pub fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("write to the small disk");
        let full = std::io::copy(&mut std::io::repeat(0), &mut ballast).expect_err("a small disk gets full");
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    /// Frees that space.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("remove the ballast");
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until the end: lazily.
        if let Err(why) = run(Command::new("umount").arg("-l").arg(self.path())) {
            eprintln!("{} stays mounted: {why}", self.path().display());
        }
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| error.to_string())?;
    if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}
