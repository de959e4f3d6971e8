//! libvirt's daemon: one of our own, with private configuration and state.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Accelerator, Daemon, Limit};
use crate::{Failure, Outcome, process};

/// The daemon asks QEMU what it can do when it is first used, which takes some seconds.
const DAEMON_LIMIT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

/// Arguments: a folder. The daemon sees its own configuration and state in the places where libvirt
/// expects them, nobody else does. Without KVM it must not find `/dev/kvm` either: it would ask QEMU
/// about it, and where KVM exists but runs no guest that takes minutes.
const DAEMON: &str = r#"
set -e
for place in /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
    mkdir -p "$1$place" $place
    mount --bind "$1$place" $place
done
[ "$2" = kvm ] || [ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
cp "$1/qemu.conf" /etc/libvirt/
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$1/pid"
"#;

/// The daemon, from when it is first needed.
pub struct Libvirtd {
    folder: PathBuf,
    daemon: RefCell<Option<Daemon>>,
}

impl Libvirtd {
    pub fn new(scratch: &Path) -> Result<Self, Failure> {
        let folder = scratch.join("libvirt");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            daemon: RefCell::new(None),
        })
    }

    pub fn start(&self, accelerator: Accelerator) -> Outcome {
        if self.daemon.borrow().is_some() {
            return Ok(());
        }
        let folder = self.folder.display();
        fs::write(
            self.folder.join("libvirtd.conf"),
            format!(
                "unix_sock_dir = \"{folder}\"\nunix_sock_rw_perms = \"0700\"\n\
                 auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n\
                 log_outputs = \"3:file:{folder}/log\"\n"
            ),
        )?;
        fs::write(
            self.folder.join("qemu.conf"),
            "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\n\
             security_default_confined = 0\ndynamic_ownership = 0\nremember_owner = 0\n\
             cgroup_controllers = []\nnamespaces = []\nstdio_handler = \"file\"\n",
        )?;
        let accelerator = match accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        let daemon = Command::new("unshare")
            .args(["--mount", "sh", "-c", DAEMON, "sh"])
            .arg(&self.folder)
            .arg(accelerator)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        self.daemon.replace(Some(Daemon(daemon)));
        let deadline = Instant::now() + DAEMON_LIMIT;
        while let Err(error) = self.virsh(&["version"]) {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("libvirtd does not answer: {error}\n{log}").into());
            }
            std::thread::sleep(RETRY);
        }
        Ok(())
    }

    /// Runs a command of virsh.
    pub fn virsh(&self, arguments: &[&str]) -> Outcome {
        process::quiet(&mut self.command(arguments))?;
        Ok(())
    }

    /// Runs one that is measured.
    pub fn virsh_within(&self, limit: &Limit, arguments: &[&str]) -> Outcome {
        process::limited(&mut self.command(arguments), || limit.exceeded())?;
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let socket = self.folder.join("libvirt-sock");
        let mut command = Command::new("virsh");
        command
            .arg("--connect")
            .arg(format!("qemu+unix:///system?socket={}", socket.display()))
            .args(arguments);
        command
    }
}
