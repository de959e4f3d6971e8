//! libvirt: a daemon of our own with private configuration and state, and `virsh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Accelerator, Claims, Contender, Daemon};
use crate::bench::guest::Guest;
use crate::{Failure, Outcome, process};

/// `virsh snapshot-create-as`: memory and disks into the qcow2 file of the first disk.
pub const INTERNAL: &str = "virsh-internal";

const DOMAIN: &str = "bench";
const EMULATOR: &str = "qemu-system-x86_64";
/// The machine that rootvirt makes.
const MACHINE: &str = "pc-i440fx-9.0";
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

/// Internal snapshots by libvirt.
pub struct Internal {
    folder: PathBuf,
    daemon: Option<Daemon>,
}

impl Internal {
    pub fn new(scratch: &Path) -> Result<Self, Failure> {
        let folder = scratch.join("libvirt");
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            daemon: None,
        })
    }

    fn start_daemon(&mut self, accelerator: Accelerator) -> Outcome {
        if self.daemon.is_some() {
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
        self.daemon = Some(Daemon(daemon));
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

    fn virsh(&self, arguments: &[&str]) -> Outcome {
        let socket = self.folder.join("libvirt-sock");
        process::quiet(
            Command::new("virsh")
                .arg("--connect")
                .arg(format!("qemu+unix:///system?socket={}", socket.display()))
                .args(arguments),
        )?;
        Ok(())
    }
}

impl Contender for Internal {
    fn name(&self) -> &'static str {
        INTERNAL
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        self.start_daemon(guest.accelerator)?;
        let definition = guest.folder.join("domain.xml");
        fs::write(&definition, domain(guest)?)?;
        self.virsh(&["define", &definition.display().to_string()])?;
        self.virsh(&["start", DOMAIN])
    }

    fn snapshot(&mut self) -> Outcome {
        self.virsh(&["snapshot-create-as", DOMAIN, "first"])
    }

    fn claims(&mut self) -> Result<Claims, Failure> {
        Ok(Claims::default())
    }

    fn discard(&mut self) -> Outcome {
        self.virsh(&["destroy", DOMAIN])?;
        self.virsh(&["undefine", DOMAIN, "--snapshots-metadata"])
    }
}

fn domain(guest: &Guest) -> Result<String, Failure> {
    let emulator =
        process::quiet(Command::new("sh").args(["-c", "command -v \"$1\"", "sh", EMULATOR]))?;
    let (kind, cpu) = match guest.accelerator {
        Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>"),
        Accelerator::Tcg => (
            "qemu",
            "<cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>",
        ),
    };
    let disk = |file: PathBuf, place: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>\
             <source file='{}'/><target dev='{place}' bus='ide'/></disk>\n",
            file.display()
        )
    };
    let instruments: String = guest
        .instruments()
        .iter()
        .map(|argument| format!("<qemu:arg value='{argument}'/>"))
        .collect();
    Ok(format!(
        "<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{DOMAIN}</name>
<memory unit='MiB'>{ram}</memory>
<vcpu>1</vcpu>
<os><type arch='x86_64' machine='{MACHINE}'>hvm</type></os>
<features><acpi/></features>
{cpu}
<devices>
<emulator>{emulator}</emulator>
{boot}{data}<serial type='unix'><source mode='bind' path='{serial}'/><target port='0'/></serial>
<controller type='usb' model='none'/>
<memballoon model='none'/>
</devices>
<qemu:commandline>{instruments}</qemu:commandline>
</domain>
",
        ram = guest.ram_mib,
        emulator = emulator.trim(),
        boot = disk(guest.boot_disk(), "hda"),
        data = disk(guest.data_disk(), "hdb"),
        serial = guest.serial().display(),
    ))
}
