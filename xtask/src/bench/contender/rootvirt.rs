//! This program, as a user meets it: the service, and its command line.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Claims, Contender, Daemon};
use crate::bench::Plan;
use crate::bench::guest::Guest;
use crate::{Failure, Outcome, process};

pub const NAME: &str = "rootvirt";

const MACHINE: &str = "bench";
const SNAPSHOT: &str = "first";
const EMULATOR: &str = "qemu-system-x86_64";

/// The service, and a folder with a wrapper around QEMU that adds our instruments to the guest's
/// command line; the service finds it as any other QEMU and knows nothing of it.
pub struct Rootvirt {
    program: PathBuf,
    data: PathBuf,
    wrapper: PathBuf,
    emulator: String,
    _service: Daemon,
}

impl Rootvirt {
    pub fn start_service(plan: &Plan) -> Result<Self, Failure> {
        let folder = plan.scratch.join(NAME);
        let (data, programs) = (folder.join("data"), folder.join("bin"));
        fs::create_dir_all(&data)?;
        fs::create_dir_all(&programs)?;
        let emulator =
            process::quiet(Command::new("sh").args(["-c", "command -v \"$1\"", "sh", EMULATOR]))?;
        let emulator = emulator.trim().to_owned();
        let wrapper = programs.join(EMULATOR);
        write_program(&wrapper, &format!("#!/bin/sh\nexec {emulator} \"$@\"\n"))?;

        let mut service = Command::new(&plan.program)
            .args(["serve", "--cimxml", "off", "--cimxml-tls", "off"])
            .arg("--data-dir")
            .arg(&data)
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

    fn command(&self, arguments: &[&str]) -> Result<String, Failure> {
        Ok(process::quiet(
            Command::new(&self.program)
                .arg("--data-dir")
                .arg(&self.data)
                .args(arguments),
        )?)
    }
}

impl Contender for Rootvirt {
    fn name(&self) -> &'static str {
        NAME
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        let serial = guest.serial().display().to_string();
        let wrapper = format!(
            "#!/bin/sh\ncase \"$*\" in *{serial}*) set -- \"$@\" {};; esac\nexec {} \"$@\"\n",
            guest.instruments().join(" "),
            self.emulator
        );
        write_program(&self.wrapper, &wrapper)?;
        let memory = format!("{}M", guest.ram_mib);
        let (boot, data) = (guest.boot_disk(), guest.data_disk());
        self.command(&[
            "vm",
            "create",
            MACHINE,
            "--memory",
            &memory,
            "--processors",
            "1",
            "--disk",
            &boot.display().to_string(),
            "--disk",
            &data.display().to_string(),
            "--serial",
            &serial,
        ])?;
        self.command(&["vm", "start", MACHINE])?;
        Ok(())
    }

    fn snapshot(&mut self) -> Outcome {
        self.command(&["snapshot", "create", MACHINE, "--name", SNAPSHOT])
            .map(drop)
    }

    fn claims(&mut self) -> Result<Claims, Failure> {
        let text = self.command(&["snapshot", "list", MACHINE, "--format", "json"])?;
        claims_of(&text)
    }

    fn discard(&mut self) -> Outcome {
        self.command(&["vm", "stop", MACHINE])?;
        self.command(&["vm", "delete", MACHINE]).map(drop)
    }
}

/// Reads the one snapshot out of a list of them.
fn claims_of(text: &str) -> Result<Claims, Failure> {
    let list: Value = serde_json::from_str(text)?;
    let snapshot = list
        .get(0)
        .ok_or_else(|| format!("there is no snapshot in the list: {text}"))?;
    let number = |key: &str| snapshot.get(key).and_then(Value::as_f64);
    Ok(Claims {
        pause_ms: number("pause_ms"),
        durable_ms: number("durable_ms"),
        stored_bytes: number("stored_bytes"),
    })
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
    use super::claims_of;

    #[test]
    fn what_a_snapshot_says_of_itself_is_read_from_the_list() {
        let text = r#"[{"name":"first","pause_ms":8.5,"durable_ms":760,"stored_bytes":628097024}]"#;
        let claims = claims_of(text).expect("a snapshot");
        assert_eq!(claims.pause_ms, Some(8.5));
        assert_eq!(claims.durable_ms, Some(760.0));
        assert_eq!(claims.stored_bytes, Some(628_097_024.0));
        assert!(claims_of("[]").is_err());
    }
}
