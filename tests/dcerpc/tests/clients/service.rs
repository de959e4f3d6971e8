//! The program, serving DCOM on a data directory of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const ACCOUNT: &str = "reader";
pub const PASSWORD: &str = "correct horse battery staple";

pub struct Service {
    process: Child,
    /// Where the resolver listens: what port 135 is elsewhere.
    pub resolver: String,
    /// Where the objects are, which the resolver tells as well.
    pub objects: String,
    _folder: tempfile::TempDir,
}

impl Service {
    pub fn start() -> Service {
        Self::start_at("127.0.0.1:0")
    }

    /// At port 135 of a loopback address of this process alone; `None` where that port needs rights
    /// that this process has not.
    pub fn start_at_the_well_known_port() -> Option<Service> {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = std::net::Ipv4Addr::new(127, 135, high, low.clamp(1, 254));
        let address = format!("{address}:135");
        std::net::TcpListener::bind(&address).ok()?;
        Some(Self::start_at(&address))
    }

    fn start_at(resolver: &str) -> Service {
        let program = std::env::var_os("ROOTVIRT_TEST_PROGRAM");
        let program = PathBuf::from(program.expect("ROOTVIRT_TEST_PROGRAM names the program"));
        let folder = tempfile::tempdir().expect("a folder");
        add_account(&program, folder.path());
        let log = File::create(folder.path().join("serve.log")).expect("a log");
        let mut process = Command::new(&program)
            .args(["serve", "--accelerator", "tcg", "--dcom", resolver])
            .args(["--cimxml", "127.0.0.1:0", "--cimxml-tls", "off"])
            .args(["--wsman", "off", "--wsman-tls", "off"])
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let said = || std::fs::read_to_string(folder.path().join("serve.log")).unwrap_or_default();
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ready: {line}{}", said()));
        let endpoint = |name: &str| {
            let address = ready["endpoints"][name].as_str();
            address
                .unwrap_or_else(|| panic!("no {name} in {line}"))
                .to_owned()
        };
        Service {
            process,
            resolver: endpoint("dcom"),
            objects: endpoint("dcom_objects"),
            _folder: folder,
        }
    }

    pub fn objects_port(&self) -> u16 {
        let (_, port) = self.objects.rsplit_once(':').expect("an address");
        port.parse().expect("a port")
    }
}

fn add_account(program: &Path, folder: &Path) {
    let secret = folder.join("password");
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("a file");
    let done = Command::new(program)
        .args(["account", "add", ACCOUNT, "--role", "viewer", "--ntlm"])
        .arg("--password-file")
        .arg(&secret)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
