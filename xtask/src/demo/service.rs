//! The service under demonstration, and its client commands.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Failure, Outcome, process};

/// How long the service may take to stop.
const STOP: Duration = Duration::from_secs(20);

/// A running `rootvirt serve` with an account for its client.
pub struct Service {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    url: String,
}

impl Service {
    /// Starts it in `folder` and waits for its ready line.
    pub fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let data = folder.join("data");
        std::fs::write(folder.join("password"), "only for this demo\n")?;
        process::quiet(
            Command::new(program)
                .args(["account", "add", "demo", "--role", "administrator"])
                .arg("--data-dir")
                .arg(&data)
                .arg("--password-file")
                .arg(folder.join("password")),
        )?;
        let mut child = Command::new(program)
            .args(["serve", "--cimxml", "127.0.0.1:0", "--cimxml-tls", "off"])
            .args(["--wsman", "off", "--wsman-tls", "off"])
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("serve.log"))?)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let mut service = Service {
            program: program.to_path_buf(),
            folder: folder.to_path_buf(),
            child,
            url: String::new(),
        };
        let ready: Value = serde_json::from_str(&line)
            .map_err(|_| format!("the service did not get ready\n{}", service.log_tail()))?;
        let address = ready["endpoints"]["cimxml"].as_str().unwrap_or_default();
        service.url = format!("http://{address}");
        Ok(service)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn version(&self) -> Result<String, Failure> {
        let text = process::quiet(Command::new(&self.program).arg("--version"))?;
        Ok(text.trim().to_owned())
    }

    /// Runs a client command over CIM-XML; gives what it printed as JSON text.
    pub fn client(&self, arguments: &[&str]) -> Result<String, Failure> {
        println!("  $ rootvirt {}", quoted(arguments));
        self.ask(arguments)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String, Failure> {
        Ok(process::quiet(
            Command::new(&self.program)
                .args(["--url", &self.url, "--user", "demo", "--format", "json"])
                .arg("--password-file")
                .arg(self.folder.join("password"))
                .args(arguments),
        )?)
    }

    fn first(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let rows: Value = serde_json::from_str(&self.ask(arguments)?)?;
        rows.get(0)
            .cloned()
            .ok_or_else(|| "the service answered an empty list".into())
    }

    pub fn machine_state(&self, vm: &str) -> Result<String, Failure> {
        let row = self.first(&["vm", "show", vm])?;
        Ok(row["state"].as_str().unwrap_or_default().to_owned())
    }

    /// The only snapshot of `vm`.
    pub fn snapshot(&self, vm: &str) -> Result<Value, Failure> {
        self.first(&["snapshot", "list", vm])
    }

    /// The files of a snapshot's disks.
    pub fn disk_files(&self, vm: &str, snapshot: &str) -> Result<Vec<String>, Failure> {
        let row = self.first(&["snapshot", "show", vm, snapshot])?;
        let devices = row["devices"].as_array().cloned().unwrap_or_default();
        Ok(devices
            .iter()
            .filter(|device| device["kind"] == "Microsoft Virtual Hard Disk")
            .filter_map(|device| device["connection"][0].as_str().map(str::to_owned))
            .collect())
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("serve.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Deletes what machines are left, and stops the service.
    pub fn stop_with_guests(mut self) -> Outcome {
        if let Ok(text) = self.ask(&["vm", "list"]) {
            let machines: Value = serde_json::from_str(&text)?;
            for machine in machines.as_array().into_iter().flatten() {
                if let Some(id) = machine["id"].as_str() {
                    let _ = self.ask(&["vm", "stop", id]);
                    self.ask(&["vm", "delete", id])?;
                }
            }
        }
        process::quiet(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Err("the service does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn quoted(arguments: &[&str]) -> String {
    let quote = |word: &&str| {
        if word.contains(' ') {
            format!("\"{word}\"")
        } else {
            (*word).to_owned()
        }
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}
