//! A QEMU process with a demo guest, and as much QMP as these tests need.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use demo_guest::serial::SerialClient;
use serde_json::{Value, json};

/// Generous: the machine that runs the tests may be busy with others.
pub const LIMIT: Duration = Duration::from_secs(90);

pub struct Machine {
    pub serial: SerialClient,
    folder: PathBuf,
    process: Child,
    qmp: BufReader<UnixStream>,
}

impl Machine {
    /// Starts a machine with the boot disk as first IDE disk; `folder` takes its sockets.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let boot = demo_guest::image::boot_disk().expect("a boot disk");
        for name in ["serial", "qmp"] {
            drop(std::fs::remove_file(folder.join(name)));
        }
        let socket =
            |name: &str| format!("unix:{},server=on,wait=off", folder.join(name).display());
        let process = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-machine",
                "pc",
                "-nodefaults",
                "-display",
                "none",
            ])
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=ide,index=0,snapshot=on",
                boot.display()
            ))
            .args(["-serial", &socket("serial"), "-qmp", &socket("qmp")])
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu starts");
        let serial = SerialClient::connect(&folder.join("serial"), LIMIT).expect("serial port");
        let qmp = BufReader::new(UnixStream::connect(folder.join("qmp")).expect("qmp socket"));
        let mut machine = Self {
            serial,
            folder: folder.to_owned(),
            process,
            qmp,
        };
        machine.read_qmp();
        machine.qmp("qmp_capabilities", &json!({}));
        machine
    }

    /// Runs a QMP command that must succeed.
    pub fn qmp(&mut self, command: &str, arguments: &Value) -> Value {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.qmp
            .get_mut()
            .write_all(line.as_bytes())
            .expect("qmp takes a command");
        loop {
            let mut answer = self.read_qmp();
            if let Some(value) = answer.get_mut("return") {
                return value.take();
            }
            assert!(answer.get("error").is_none(), "{command}: {answer}");
        }
    }

    fn read_qmp(&mut self) -> Value {
        let mut line = String::new();
        self.qmp.read_line(&mut line).expect("qmp says a line");
        serde_json::from_str(&line).expect("qmp says JSON")
    }

    /// The machine's physical memory, which must be below `size` bytes.
    pub fn dump_memory(&mut self, size: u64) -> PathBuf {
        let file = self.folder.join("memory");
        self.qmp(
            "pmemsave",
            &json!({ "val": 0, "size": size, "filename": file }),
        );
        file
    }

    /// Saves the whole state of the machine, which then stands still.
    pub fn save(&mut self, file: &Path) {
        self.qmp(
            "migrate",
            &json!({ "uri": format!("file:{}", file.display()) }),
        );
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.qmp("query-migrate", &json!({}))["status"].as_str() {
                Some("completed") => return,
                Some("failed" | "cancelled") => panic!("the migration failed"),
                _ => assert!(Instant::now() < deadline, "the migration takes too long"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the process has ended by itself.
    pub fn wait_for_end(mut self) {
        let deadline = Instant::now() + LIMIT;
        while self.process.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < deadline, "the machine does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Makes a blank qcow2 disk.
pub fn blank_disk(file: &Path) {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(file)
        .arg("16M")
        .status()
        .expect("qemu-img runs");
    assert!(made.success());
}
