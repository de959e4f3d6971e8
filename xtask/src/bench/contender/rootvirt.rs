//! This program, as a user meets it: the service, and its command line.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

use serde_json::Value;

use super::{Claims, Contender, Daemon, EMULATOR, Limit, emulator};
use crate::bench::guest::Guest;
use crate::bench::plan::Plan;
use crate::{Failure, Outcome, process};

/// `snapshot create`, `snapshot apply` and `vm start`.
pub const LIVE: &str = "rootvirt";
/// `vm save` and `vm start`.
pub const SAVE: &str = "rootvirt-save";

const MACHINE: &str = "bench";

/// The service, and a folder with a wrapper around QEMU that adds our instruments to the guest's
/// command line; the service finds it as any other QEMU and knows nothing of it.
pub struct Service {
    program: PathBuf,
    data: PathBuf,
    wrapper: PathBuf,
    emulator: String,
    _service: Daemon,
}

impl Service {
    pub fn start(plan: &Plan) -> Result<Self, Failure> {
        let folder = plan.scratch.join("service");
        let (data, programs) = (folder.join("data"), folder.join("bin"));
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&programs)?;
        let emulator = emulator()?;
        let wrapper = programs.join(EMULATOR);
        write_program(&wrapper, &format!("#!/bin/sh\nexec {emulator} \"$@\"\n"))?;

        let mut command = Command::new(&plan.program);
        command
            .args(["serve", "--cimxml", "off", "--cimxml-tls", "off"])
            .args(["--wsman", "off", "--wsman-tls", "off"])
            .arg("--data-dir")
            .arg(&data);
        if let Some(limit) = &plan.huge_pages {
            command.args(["--huge-pages-limit", limit]);
        }
        let mut service = command
            .env("PATH", with_first(&programs))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()?;
        let said = service.stdout.take();
        let service = Daemon(service);
        let mut line = String::new();
        if let Some(said) = said {
            BufReader::new(said).read_line(&mut line)?;
        }
        if !line.contains("\"ready\"") {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(format!("rootvirt serve did not get ready:\n{log}").into());
        }
        Ok(Self {
            program: plan.program.clone(),
            data,
            wrapper,
            emulator,
            _service: service,
        })
    }

    fn start_guest(&self, guest: &Guest) -> Outcome {
        let serial = guest.serial().display().to_string();
        let wrapper = format!(
            "#!/bin/sh\ncase \"$*\" in *{serial}*) set -- \"$@\" {};; esac\nexec {} \"$@\"\n",
            guest.instruments().join(" "),
            self.emulator
        );
        write_program(&self.wrapper, &wrapper)?;
        let memory = format!("{}M", guest.ram_mib);
        let disks = [guest.boot_disk(), guest.data_disk()].map(|disk| disk.display().to_string());
        let [boot, data] = &disks;
        let create = [
            "vm",
            "create",
            MACHINE,
            "--memory",
            &memory,
            "--processors",
            "1",
        ];
        let devices = ["--disk", boot, "--disk", data, "--serial", &serial];
        self.run(&[&create[..], &devices[..]].concat())?;
        self.run(&["vm", "start", MACHINE]).map(drop)
    }

    /// Runs a command.
    fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        Ok(process::quiet(&mut self.command(arguments))?)
    }

    /// Runs one that is measured.
    fn run_within(&self, limit: &Limit, arguments: &[&str]) -> Outcome {
        process::limited(&mut self.command(arguments), || limit.exceeded())?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--data-dir").arg(&self.data).args(arguments);
        command
    }

    fn delete_guest(&self) -> Outcome {
        // It may have ended already.
        drop(self.run(&["vm", "stop", MACHINE]));
        self.run(&["vm", "delete", MACHINE]).map(drop)
    }
}

/// Live snapshots.
pub struct Live(Rc<Service>);

impl Live {
    pub fn new(service: &Rc<Service>) -> Self {
        Self(Rc::clone(service))
    }
}

impl Contender for Live {
    fn name(&self) -> &'static str {
        LIVE
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        self.0.start_guest(guest)
    }

    fn memory(&mut self) -> Option<String> {
        memory_of(
            &self
                .0
                .run(&["vm", "show", MACHINE, "--format", "json"])
                .ok()?,
        )
    }

    fn snapshot(&mut self, number: usize, limit: &Limit) -> Outcome {
        let name = snapshot_name(number);
        self.0
            .run_within(limit, &["snapshot", "create", MACHINE, "--name", &name])
    }

    fn claims(&mut self, number: usize) -> Result<Claims, Failure> {
        let list = self
            .0
            .run(&["snapshot", "list", MACHINE, "--format", "json"])?;
        claims_of(&list, &snapshot_name(number))
    }

    fn end_guest(&mut self) -> Outcome {
        self.0.run(&["vm", "stop", MACHINE]).map(drop)
    }

    fn restore(&mut self, number: usize, limit: &Limit) -> Result<Instant, Failure> {
        let name = snapshot_name(number);
        self.0
            .run_within(limit, &["snapshot", "apply", MACHINE, &name])?;
        let began = Instant::now();
        self.0.run_within(limit, &["vm", "start", MACHINE])?;
        Ok(began)
    }

    fn delete(&mut self, number: usize, limit: &Limit) -> Outcome {
        let name = snapshot_name(number);
        self.0
            .run_within(limit, &["snapshot", "remove", MACHINE, &name])
    }

    fn discard(&mut self) -> Outcome {
        self.0.delete_guest()
    }
}

/// Saving to disk.
pub struct Save(Rc<Service>);

impl Save {
    pub fn new(service: &Rc<Service>) -> Self {
        Self(Rc::clone(service))
    }
}

impl Contender for Save {
    fn name(&self) -> &'static str {
        SAVE
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        self.0.start_guest(guest)
    }

    fn snapshot(&mut self, _number: usize, limit: &Limit) -> Outcome {
        self.0.run_within(limit, &["vm", "save", MACHINE])
    }

    fn end_guest(&mut self) -> Outcome {
        Ok(())
    }

    fn restore(&mut self, _number: usize, limit: &Limit) -> Result<Instant, Failure> {
        let began = Instant::now();
        self.0.run_within(limit, &["vm", "start", MACHINE])?;
        Ok(began)
    }

    fn delete(&mut self, _number: usize, _limit: &Limit) -> Outcome {
        Ok(())
    }

    fn discard(&mut self) -> Outcome {
        self.0.delete_guest()
    }
}

fn snapshot_name(number: usize) -> String {
    format!("s{number}")
}

/// Reads one snapshot out of a list of them.
fn claims_of(text: &str, name: &str) -> Result<Claims, Failure> {
    let list: Value = serde_json::from_str(text)?;
    let is_it = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(name);
    let snapshot = list
        .as_array()
        .and_then(|list| list.iter().find(is_it))
        .ok_or_else(|| format!("there is no snapshot {name} in the list: {text}"))?;
    let number = |key: &str| snapshot.get(key).and_then(Value::as_f64);
    Ok(Claims {
        pause_ms: number("pause_ms"),
        durable_ms: number("durable_ms"),
        stored_bytes: number("stored_bytes"),
    })
}

/// Reads what a machine's memory is made of, and why.
fn memory_of(text: &str) -> Option<String> {
    let shown: Value = serde_json::from_str(text).ok()?;
    let machine = shown.get(0).unwrap_or(&shown);
    let text = |key: &str| machine.get(key).and_then(Value::as_str);
    let reason = text("memory_backing_reason").unwrap_or_default();
    Some(format!("{}: {reason}", text("memory_backing")?))
}

/// A program may be running while it is replaced, so it is never written in place.
fn write_program(file: &Path, text: &str) -> Outcome {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(new, file)?;
    Ok(())
}

fn with_first(folder: &Path) -> OsString {
    let mut path = folder.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

#[cfg(test)]
mod tests {
    use super::{claims_of, memory_of};

    #[test]
    fn what_a_snapshot_says_of_itself_is_read_from_the_list() {
        let text = r#"[{"name":"s1","pause_ms":1},
            {"name":"s2","pause_ms":8.5,"durable_ms":760,"stored_bytes":628097024}]"#;
        let claims = claims_of(text, "s2").expect("a snapshot");
        assert_eq!(claims.pause_ms, Some(8.5));
        assert_eq!(claims.durable_ms, Some(760.0));
        assert_eq!(claims.stored_bytes, Some(628_097_024.0));
        assert!(claims_of(text, "s3").is_err());
    }

    #[test]
    fn what_a_guest_runs_on_is_read_from_the_machine() {
        let text = r#"[{"name":"bench","memory_backing":"hugetlb","memory_backing_reason":"There were."}]"#;
        assert_eq!(memory_of(text).as_deref(), Some("hugetlb: There were."));
        assert_eq!(memory_of("[]"), None);
    }
}
