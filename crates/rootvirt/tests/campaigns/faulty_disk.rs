//! A file system on a disk that is slow, or fails, when it is told to: a loop device over a file that
//! QEMU's storage daemon shows through FUSE. So the kernel itself sees the slow or failed writes.

use crate::site::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct FaultyDisk {
    place: PathBuf,
    device: Option<String>,
    daemon: Child,
    monitor: BufReader<UnixStream>,
    _folder: tempfile::TempDir,
}

impl FaultyDisk {
    /// Mounts one that is neither slow nor failing yet; `None`, with the reason printed, where this
    /// test may not.
    pub fn mount(place: &Path, mib: u64) -> Option<FaultyDisk> {
        fs::create_dir_all(place).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [file, shown, socket] = ["file", "shown", "socket"].map(|n| folder.path().join(n));
        fs::File::create(&file).unwrap().set_len(mib << 20).unwrap();
        fs::File::create(&shown).unwrap();
        let daemon = Command::new("qemu-storage-daemon")
            .args(["--object", "throttle-group,id=limits"])
            .arg("--blockdev")
            .arg(format!("file,node-name=file,filename={}", file.display()))
            .args(["--blockdev", "raw,node-name=sound,file=file"])
            .args([
                "--blockdev",
                "throttle,node-name=disk,file=sound,throttle-group=limits",
            ])
            .arg("--chardev")
            .arg(format!(
                "socket,id=monitor,server=on,wait=off,path={}",
                socket.display()
            ))
            .args(["--monitor", "chardev=monitor", "--export"])
            .arg(format!(
                "fuse,id=disk,node-name=disk,writable=on,mountpoint={}",
                shown.display()
            ))
            .stdin(Stdio::null())
            .spawn();
        let Ok(daemon) = daemon else {
            println!("skipped: there is no qemu-storage-daemon");
            return None;
        };
        let mut daemon = Daemon(Some(daemon));
        let monitor = eventually("the disk is there, or cannot be", PATIENCE, || {
            let ended = daemon.ended();
            let stream = UnixStream::connect(&socket).ok();
            // It is shown when it has the file's size.
            let there = shown.metadata().is_ok_and(|m| m.len() == mib << 20);
            (ended || (there && stream.is_some())).then_some(stream.filter(|_| !ended))
        });
        let Some(monitor) = monitor else {
            println!("skipped: QEMU's storage daemon shows no files through FUSE here");
            return None;
        };
        let daemon = daemon.0.take()?;
        let mut disk = FaultyDisk {
            place: place.to_owned(),
            device: None,
            daemon,
            monitor: BufReader::new(monitor),
            _folder: folder,
        };
        disk.answer();
        disk.tell("qmp_capabilities", json!({}));
        disk.device = output(
            Command::new("losetup")
                .args(["--find", "--show"])
                .arg(&shown),
        );
        let Some(device) = disk.device.clone() else {
            println!("skipped: there are no loop devices");
            return None;
        };
        // Without a journal: a failed write of one file is not to cost the others.
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-O", "^has_journal", "-m", "0", &device])
            .status();
        let mounted = Command::new("mount")
            .args(["-t", "ext4", "-o", "errors=continue", &device])
            .arg(place)
            .status();
        if !made.is_ok_and(|s| s.success()) || !mounted.is_ok_and(|s| s.success()) {
            println!("skipped: mounting a file system needs root and mkfs.ext4");
            return None;
        }
        fs::remove_dir(place.join("lost+found")).unwrap();
        Some(disk)
    }

    /// Writes get no more than so many bytes through in a second; 0: as many as they can.
    pub fn limit(&mut self, bytes: u64) {
        let limits = json!({"path": "/objects/limits", "property": "limits",
                            "value": {"bps-write": bytes}});
        self.tell("qom-set", limits);
    }

    /// Every write fails from now on.
    pub fn fail(&mut self) {
        let rule = json!({"event": "none", "iotype": "write", "errno": 5, "immediately": true});
        let failing = json!({"driver": "blkdebug", "node-name": "failing", "image": "sound",
                             "inject-error": [rule]});
        self.tell("blockdev-add", failing);
        self.stand_on("failing");
    }

    /// Writes succeed again.
    pub fn repair(&mut self) {
        self.stand_on("sound");
        self.tell("blockdev-del", json!({"node-name": "failing"}));
    }

    fn stand_on(&mut self, node: &str) {
        let options = json!({"driver": "throttle", "node-name": "disk",
                             "throttle-group": "limits", "file": node});
        self.tell("blockdev-reopen", json!({"options": [options]}));
    }

    fn tell(&mut self, command: &str, arguments: Value) {
        let line = json!({"execute": command, "arguments": arguments});
        writeln!(self.monitor.get_mut(), "{line}").unwrap();
        let answer = loop {
            let answer = self.answer();
            if answer.get("event").is_none() {
                break answer;
            }
        };
        assert!(answer.get("return").is_some(), "{line}: {answer}");
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        // In this order; each of them fails if there is nothing to undo.
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
        if let Some(device) = &self.device {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A daemon that ends with its value.
struct Daemon(Option<Child>);

impl Daemon {
    fn ended(&mut self) -> bool {
        let daemon = self.0.as_mut();
        daemon.is_none_or(|d| d.try_wait().unwrap().is_some())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.0.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
