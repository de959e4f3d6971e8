//! `cargo xtask setup`: what the other commands need on this machine, checked and, where missing,
//! installed: QEMU 9 or newer, Python with the test clients, samba's client programs. Quick when all
//! is there.
//!
//! Works by itself on Debian as root; elsewhere it says what to install by hand. The system's
//! package sources stay as they are (see `apt`).

mod python;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::apt::Apt;
use crate::{Outcome, WrongUsage, guest, process};

pub use python::interpreter as python_interpreter;

pub const USAGE: &str = "setup [--simulate] [--libvirt]\n      \
    checks for and installs what the other commands need; --simulate only says what apt would do";

/// The oldest QEMU that has all we use.
const OLDEST_QEMU: u32 = 9;

/// Something a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// QEMU for x86 machines with its BIOS, and `qemu-img`.
    Qemu,
    /// Python with the clients that the tests use, in a virtual environment of our own.
    Python,
    /// `mkfs.ext4` and `debugfs`, which the tests of the guest agent use.
    Ext4,
    /// Samba's `rpcclient`, a client of remote procedure calls that the tests use.
    Samba,
    /// libvirt, which only the benchmarks compare with.
    Libvirt,
}

impl Need {
    const fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Qemu => &["qemu-system-x86", "qemu-utils", "seabios"],
            Self::Python => &["python3", "python3-venv"],
            Self::Ext4 => &["e2fsprogs"],
            Self::Samba => &["smbclient"],
            Self::Libvirt => &[
                "libvirt-daemon",
                "libvirt-daemon-driver-qemu",
                "libvirt-clients",
            ],
        }
    }

    /// What is missing, in a sentence; none if nothing is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Qemu => missing_qemu(),
            Self::Python => python::missing(),
            Self::Ext4 => sbin("mkfs.ext4")
                .is_none()
                .then(|| "mkfs.ext4 is not there".to_owned()),
            Self::Samba => {
                (!is_there("rpcclient")).then(|| "samba's rpcclient is not there".to_owned())
            }
            Self::Libvirt => (!is_there("virsh") || !is_there("libvirtd"))
                .then(|| "libvirt's virsh and libvirtd are not there".to_owned()),
        }
    }

    const fn by_hand(self) -> &'static str {
        match self {
            Self::Qemu => {
                "QEMU 9.0 or newer (qemu-system-x86_64 with SeaBIOS, and qemu-img) on the PATH"
            }
            Self::Python => "Python 3.9 or newer with the modules venv and ensurepip",
            Self::Ext4 => "e2fsprogs (mkfs.ext4 and debugfs)",
            Self::Samba => "samba's client programs (rpcclient)",
            Self::Libvirt => "libvirt with its QEMU driver (virsh and libvirtd)",
        }
    }
}

pub fn run(arguments: &[String]) -> Outcome {
    let mut needs = vec![Need::Qemu, Need::Python, Need::Samba, Need::Ext4];
    let mut simulate = false;
    for argument in arguments {
        match argument.as_str() {
            "--simulate" => simulate = true,
            "--libvirt" => needs.push(Need::Libvirt),
            other => return Err(WrongUsage(format!("setup takes no {other}")).into()),
        }
    }
    if simulate {
        let packages: Vec<&str> = needs
            .iter()
            .flat_map(|need| need.packages())
            .copied()
            .collect();
        print!("{}", Apt::new()?.simulate_install(&packages)?);
        return Ok(());
    }
    ensure(&needs)?;
    guest::boot_image()?;
    Ok(())
}

/// Sees to it that everything needed is there.
pub fn ensure(needs: &[Need]) -> Outcome {
    for need in needs {
        if let Some(problem) = need.missing() {
            install(*need, &problem)?;
        }
        if *need == Need::Python {
            python::ensure_environment()?;
        }
    }
    Ok(())
}

fn install(need: Need, problem: &str) -> Outcome {
    let packages = need.packages();
    let by_hand = format!(
        "{problem}. Install by hand: {} (Debian: {})",
        need.by_hand(),
        packages.join(" ")
    );
    if !is_root() {
        return Err(format!("{by_hand}; or run this as root on Debian").into());
    }
    eprintln!("{problem}");
    let apt = Apt::new().map_err(|error| format!("{by_hand}; {error}"))?;
    apt.install(packages)?;
    match need.missing() {
        None => Ok(()),
        Some(problem) => {
            Err(format!("even after installing {}: {problem}", packages.join(" ")).into())
        }
    }
}

fn missing_qemu() -> Option<String> {
    for program in ["qemu-system-x86_64", "qemu-img"] {
        let Ok(text) = process::quiet(Command::new(program).arg("--version")) else {
            return Some(format!("{program} is not there"));
        };
        match major_version(&text) {
            Some(version) if version >= OLDEST_QEMU => {}
            Some(version) => {
                return Some(format!(
                    "{program} is of version {version}, older than {OLDEST_QEMU}"
                ));
            }
            None => return Some(format!("{program} does not tell its version")),
        }
    }
    None
}

fn major_version(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version ")?;
    rest.split('.').next()?.parse().ok()
}

fn is_there(program: &str) -> bool {
    process::quiet(Command::new(program).arg("--version")).is_ok()
}

/// A program for administrators, which need not be on the path of others.
pub fn sbin(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/sbin"];
    let mut programs = folders.iter().map(|folder| Path::new(folder).join(name));
    programs.find(|program| program.is_file())
}

fn is_root() -> bool {
    process::quiet(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::major_version;

    #[test]
    fn versions_of_qemu_programs_are_read() {
        assert_eq!(
            major_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\n"),
            Some(10)
        );
        assert_eq!(
            major_version("qemu-img version 7.2.17 (Debian 1:7.2)\n"),
            Some(7)
        );
        assert_eq!(major_version("something else"), None);
    }
}
