//! A small file system in memory, whose space can be taken away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct SmallDisk {
    place: PathBuf,
    mib: u32,
}

impl SmallDisk {
    /// Mounts one; `None`, with the reason printed, where this test may not.
    pub fn mount(place: &Path, mib: u32) -> Option<SmallDisk> {
        fs::create_dir_all(place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(place)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: mounting a small file system needs root");
            return None;
        }
        Some(SmallDisk {
            place: place.to_owned(),
            mib,
        })
    }

    /// Makes it so small that `left` bytes are free.
    pub fn shrink(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.place).unwrap();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        self.resize(used + left);
    }

    /// Makes it as large as it was.
    pub fn make_room(&self) {
        self.resize(u64::from(self.mib) << 20);
    }

    fn resize(&self, bytes: u64) {
        let resized = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(&self.place)
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}
