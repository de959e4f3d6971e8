//! The service that a benchmark asks: of this program, on data of its own, with an account for the
//! client.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::client::{CimXml, Connection, Dcom, Level, Logon};
use crate::{Failure, Outcome, process};

const PASSWORD: &str = "only for this benchmark";
const USER: &str = "bench";

/// A running service.
pub struct Service {
    child: Child,
    ready: Value,
}

impl Service {
    /// Starts the program with its data below a folder.
    pub fn start(program: &Path, folder: &Path) -> Result<Self, Failure> {
        let data = folder.join("data");
        let password: PathBuf = folder.join("password");
        fs::write(&password, PASSWORD)?;
        process::quiet(
            Command::new(program)
                .args(["account", "add", USER, "--role", "administrator", "--ntlm"])
                .arg("--data-dir")
                .arg(&data)
                .arg("--password-file")
                .arg(&password),
        )?;
        // It ends with this program, however that ends.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(["serve", "--accelerator", "tcg", "--dcom", "127.0.0.1:0"])
            .args(["--cimxml", "127.0.0.1:0", "--cimxml-tls", "off"])
            .args(["--wsman", "127.0.0.1:0", "--wsman-tls", "off"])
            .arg("--data-dir")
            .arg(&data)
            .env("ROOTVIRT_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ready = serde_json::from_str(&line).map_err(|_| "the service did not get ready");
        Ok(Service {
            child,
            ready: ready?,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn endpoint(&self, name: &str) -> Result<&str, Failure> {
        let address = self.ready["endpoints"][name].as_str();
        address.ok_or_else(|| format!("the service does not serve {name}").into())
    }

    /// A connection to an endpoint over HTTP.
    pub fn connect(&self, endpoint: &str) -> Result<Connection, Failure> {
        Connection::open(self.endpoint(endpoint)?, USER, PASSWORD)
    }

    pub fn log_in(&self, level: Level) -> Result<Dcom, Failure> {
        Dcom::log_in(&Logon {
            resolver: self.endpoint("dcom")?,
            objects: self.endpoint("dcom_objects")?,
            user: USER,
            password: PASSWORD,
            level,
        })
    }

    /// Defines so many machines: `machine00000` and so on.
    pub fn define(&self, machines: usize) -> Outcome {
        eprintln!("defining {machines} machines");
        let mut client = CimXml(self.connect("cimxml")?);
        let management = client.find("SELECT * FROM Msvm_VirtualSystemManagementService")?;
        for number in 0..machines {
            client.define(&management, &machine_name(number))?;
        }
        Ok(())
    }

    pub fn memory_kib(&self, which: &str) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(which));
        let number =
            line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
        number.ok_or_else(|| format!("the kernel does not tell {which}").into())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It keeps nothing that anybody wants.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of a machine that [`Service::define`] makes.
pub fn machine_name(number: usize) -> String {
    format!("machine{number:05}")
}

/// How much processor time a process has taken.
pub fn processor_time(process: u32) -> Result<Duration, Failure> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    ticks(&stat)
        // The kernel tells programs hundredths of a second, whatever it counts in.
        .map(|ticks| Duration::from_millis(ticks * 10))
        .ok_or_else(|| format!("the kernel does not tell the time of process {process}").into())
}

/// In user mode and in the kernel: fields 14 and 15. The second, in brackets, may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let kernel: u64 = times.next()?.parse().ok()?;
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn both_times_count_and_a_name_does_not_confuse() {
        let stat = "7 (a) b c) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 5 6 20 0 1 0 99 0 0\n";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (short) S 1"), None);
    }
}
