//! A service with a data directory of its own. Whatever becomes of a test, its service and its
//! guests end with it.

use qemu::identity::{self, Identity};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes, even on a busy host.
pub const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_rootvirt");
/// Another build of the program, for campaigns so long that it is built anew meanwhile.
const PROGRAM_VARIABLE: &str = "ROOTVIRT_TEST_PROGRAM";
/// The service's own test hook: it kills itself when it reaches the step of this name.
const CRASH_VARIABLE: &str = "ROOTVIRT_CRASH_POINT";

/// A command that the program refused or failed.
#[derive(Debug)]
pub struct Refused {
    pub stderr: String,
}

/// What became of a service that was started.
pub enum Started {
    /// It was ready after this time.
    Ready(Duration),
    /// It died before.
    Died,
}

pub struct Site {
    folder: TempDir,
    service: Option<Child>,
}

impl Site {
    /// A data directory; the service does not run yet.
    pub fn new() -> Site {
        let folder = tempfile::Builder::new()
            .prefix("rootvirt-campaign-")
            .tempdir()
            .unwrap();
        Site {
            folder,
            service: None,
        }
    }

    /// A data directory with a running service.
    pub fn running() -> Site {
        let mut site = Site::new();
        site.start();
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    /// Starts the service; gives how long it took to get ready.
    pub fn start(&mut self) -> Duration {
        self.start_with(&[])
    }

    /// Starts the service with more options.
    pub fn start_with(&mut self, options: &[&str]) -> Duration {
        match self.launch(None, options) {
            Started::Ready(took) => took,
            Started::Died => panic!("the service does not start\n{}", self.log_tail()),
        }
    }

    /// Starts the service so that it dies at a step; it may do so while it settles what was left.
    pub fn start_armed(&mut self, point: &str) -> Started {
        self.launch(Some(point), &[])
    }

    fn launch(&mut self, crash_point: Option<&str>, options: &[&str]) -> Started {
        assert!(self.service.is_none(), "one service at a time");
        let begun = Instant::now();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut command = Command::new(program());
        command
            .args(["serve", "--cimxml", "off", "--cimxml-tls", "off"])
            .args(["--wsman", "off", "--wsman-tls", "off"])
            .args(["--accelerator", "tcg", "--data-dir"])
            .arg(self.data_dir())
            .args(options)
            .env_remove(CRASH_VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(point) = crash_point {
            command.env(CRASH_VARIABLE, point);
        }
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.service = Some(child);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("the service does not get ready\n{}", self.log_tail()));
        if line.is_empty() {
            self.wait_for_death();
            return Started::Died;
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["ready"], true, "{line}");
        Started::Ready(begun.elapsed())
    }

    /// Waits until the service has died by itself.
    pub fn wait_for_death(&mut self) -> ExitStatus {
        let mut child = self.service.take().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the service does not end\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the service has died by itself.
    pub fn is_dead(&mut self) -> bool {
        self.service
            .as_mut()
            .is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Kills the service: it gets no chance to do anything.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.service.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the service to stop and waits until it has.
    pub fn stop(&mut self) {
        let pid = self.service.as_ref().unwrap().id();
        kill_process(pid_of(pid), Signal::TERM).unwrap();
        let status = self.wait_for_death();
        assert!(status.success(), "{status}\n{}", self.log_tail());
    }

    /// Runs a client command; gives what it answers as JSON.
    pub fn try_ask(&self, arguments: &[&str]) -> Result<Value, Refused> {
        let output = self.command(arguments);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Refused { stderr });
        }
        match output.stdout.is_empty() {
            true => Ok(Value::Null),
            false => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        }
    }

    /// Runs a client command that must succeed.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        match self.try_ask(arguments) {
            Ok(value) => value,
            Err(refused) => panic!("{arguments:?}: {}\n{}", refused.stderr, self.log_tail()),
        }
    }

    /// Runs a client command that answers one object.
    pub fn ask_one(&self, arguments: &[&str]) -> Value {
        let mut rows = self.ask(arguments);
        match rows.as_array_mut().map(Vec::as_mut_slice) {
            Some([row]) => row.take(),
            _ => panic!("{arguments:?}: not one answer: {rows}"),
        }
    }

    /// Runs a client command that must be refused; gives what it says.
    pub fn ask_refused(&self, arguments: &[&str]) -> String {
        match self.try_ask(arguments) {
            Err(refused) => refused.stderr,
            Ok(value) => panic!("{arguments:?} was not refused: {value}"),
        }
    }

    /// Runs a client command that answers whether or not it fails.
    pub fn ask_anyway(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.command(arguments);
        let answer = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            panic!("{arguments:?}: {error}: {said}")
        });
        (output.status.success(), answer)
    }

    /// Starts a client command without waiting for it.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.client(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Output {
        let mut client = self.client(arguments);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(client.output().unwrap()));
        receiver
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|_| panic!("{arguments:?} does not end\n{}", self.log_tail()))
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(["--format", "json", "--data-dir"])
            .arg(self.data_dir())
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Kills a machine's QEMU.
    pub fn kill_guest(&self, id: &str) {
        assert!(self.try_kill_guest(id), "no running guest");
    }

    /// Kills a machine's QEMU if it has one.
    pub fn try_kill_guest(&self, id: &str) -> bool {
        let handle = Identity::read(&self.run_dir(id)).and_then(|identity| identity.open());
        handle.is_some_and(|handle| identity::kill(&handle).is_ok())
    }

    /// Processes that work on the data directory, without the service itself.
    pub fn other_processes(&self) -> Vec<String> {
        let folder = self.data_dir().to_str().unwrap().to_owned();
        let service = self.service.as_ref().map(|child| child.id().to_string());
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries
            .filter(|entry| entry.file_name().to_str() != service.as_deref())
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(&folder))
            .collect()
    }

    fn run_dir(&self, id: &str) -> PathBuf {
        self.data_dir().join("run").join(id)
    }

    fn log(&self) -> PathBuf {
        self.path("serve.log")
    }

    /// What the service said last.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        let machines = std::fs::read_dir(self.data_dir().join("run"));
        for machine in machines.into_iter().flatten().flatten() {
            if let Some(handle) = Identity::read(&machine.path()).and_then(|i| i.open()) {
                let _ = identity::kill(&handle);
            }
        }
        if std::thread::panicking() && std::env::var_os("ROOTVIRT_TEST_KEEP").is_some() {
            let kept = std::mem::replace(&mut self.folder, TempDir::new().unwrap()).keep();
            eprintln!("kept: {}", kept.display());
        }
    }
}

/// A file of zeros that takes no space yet.
pub fn blank_file(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

fn program() -> PathBuf {
    std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| PROGRAM.into(), PathBuf::from)
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Waits until `ask` has an answer.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
