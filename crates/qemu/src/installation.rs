//! Finding QEMU on this host, and refusing one that is too old.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The oldest QEMU that has what is needed here (the machine type and `file:PATH,offset=`).
pub const NEEDED: Version = Version {
    major: 9,
    minor: 0,
    micro: 0,
};

const HELP: &str = "On Debian 12, install qemu-system-x86 and qemu-utils from bookworm-backports; \
                    on Debian 13, Ubuntu 24.10, Fedora 41 or later, the distribution's own; \
                    otherwise see https://www.qemu.org/download/.";

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub micro: u32,
}

impl Version {
    /// Finds `version 1.2.3` in what a QEMU program prints about itself.
    pub fn find_in(text: &str) -> Option<Version> {
        let (_, after) = text.split_once("version ")?;
        let end = after
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(after.len());
        let mut numbers = after.get(..end)?.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next()?.ok();
        let (major, minor) = (next()?, next()?);
        Some(Version {
            major,
            minor,
            micro: next().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The QEMU programs that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// `qemu-system-x86_64`.
    pub system: PathBuf,
    /// `qemu-img`.
    pub img: PathBuf,
    /// `qemu-nbd`, which only machines with VHD or VHDX disks need.
    pub nbd: Option<PathBuf>,
    /// `setsid` of util-linux, with which a process is started in a session of its own without a copy
    /// of this one's page tables being made for it, which takes tens of milliseconds while memory
    /// is on its way.
    pub setsid: Option<PathBuf>,
    /// The version of `system`.
    pub version: Version,
    /// Whether QEMU can restrict its own system calls on this host (seccomp).
    pub sandbox: bool,
}

/// Why no usable QEMU was found.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InstallationError {
    #[error("{program} was not found in PATH; QEMU {NEEDED} or later is needed. {HELP}")]
    NotFound { program: &'static str },
    #[error("{path} cannot be run: {cause}. QEMU {NEEDED} or later is needed. {HELP}")]
    NotRunnable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} did not tell its version within {seconds} s.")]
    Silent { path: PathBuf, seconds: u64 },
    #[error("{path} does not look like a QEMU program; it says: {said}")]
    NotQemu { path: PathBuf, said: String },
    #[error("{path} is QEMU {found}; {NEEDED} or later is needed. {HELP}")]
    TooOld { path: PathBuf, found: Version },
}

impl Installation {
    /// Finds QEMU in `PATH`.
    pub async fn find() -> Result<Installation, InstallationError> {
        Self::find_with(None, None).await
    }

    /// Finds QEMU; a path given here is used instead of searching.
    pub async fn find_with(
        system: Option<&Path>,
        img: Option<&Path>,
    ) -> Result<Installation, InstallationError> {
        let system = locate(system, "qemu-system-x86_64")?;
        let img = locate(img, "qemu-img")?;
        let version = checked_version(&system).await?;
        checked_version(&img).await?;
        let sandbox = sandbox_works(&system).await;
        Ok(Installation {
            system,
            nbd: beside(&img, "qemu-nbd"),
            setsid: search(std::env::var_os("PATH").as_deref(), "setsid"),
            img,
            version,
            sandbox,
        })
    }

    /// A command for the program as the leader of a new session: no terminal and no signal to our
    /// process group reaches it.
    pub(crate) fn in_own_session(&self, program: &Path) -> Command {
        if let Some(setsid) = &self.setsid {
            let mut command = Command::new(setsid);
            command.arg(program);
            return command;
        }
        let mut command = Command::new(program);
        crate::raw::in_own_session(&mut command);
        command
    }
}

fn locate(given: Option<&Path>, program: &'static str) -> Result<PathBuf, InstallationError> {
    match given {
        Some(path) => Ok(path.to_path_buf()),
        None => search(std::env::var_os("PATH").as_deref(), program)
            .ok_or(InstallationError::NotFound { program }),
    }
}

/// A program of the same package as `other`.
fn beside(other: &Path, program: &str) -> Option<PathBuf> {
    let path = other.with_file_name(program);
    match path.is_file() {
        true => Some(path),
        false => search(std::env::var_os("PATH").as_deref(), program),
    }
}

fn search(path: Option<&OsStr>, program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    std::env::split_paths(path?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|file| {
            std::fs::metadata(file)
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

async fn checked_version(path: &Path) -> Result<Version, InstallationError> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let run = tokio::process::Command::new(path)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run)
        .await
        .map_err(|_| InstallationError::Silent {
            path: path.into(),
            seconds: PATIENCE.as_secs(),
        })?
        .map_err(|cause| InstallationError::NotRunnable {
            path: path.into(),
            cause,
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let found = Version::find_in(&said).ok_or_else(|| InstallationError::NotQemu {
        path: path.into(),
        said: said.chars().take(200).collect(),
    })?;
    if found < NEEDED {
        return Err(InstallationError::TooOld {
            path: path.into(),
            found,
        });
    }
    Ok(found)
}

/// Starts a machine without anything inside the sandbox and ends it at once: builds without
/// seccomp and hosts that forbid it are found here and not when a guest is to start.
async fn sandbox_works(system: &Path) -> bool {
    let mut child = match tokio::process::Command::new(system)
        .args([
            "-no-user-config",
            "-nodefaults",
            "-machine",
            "none",
            "-display",
            "none",
        ])
        .args([
            "-S",
            "-qmp",
            "stdio",
            "-sandbox",
            crate::command_line::SANDBOX,
        ])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
    {
        Ok(child) => child,
        Err(_) => return false,
    };
    let quit = b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
    let run = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(quit).await?;
            stdin.flush().await?;
            return child.wait().await.map(|status| status.success());
        }
        Ok::<bool, std::io::Error>(false)
    };
    matches!(
        tokio::time::timeout(Duration::from_secs(20), run).await,
        Ok(Ok(true))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_and_ordered() {
        let v = |t| Version::find_in(t);
        let ten = v("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)").unwrap();
        assert_eq!((ten.major, ten.minor, ten.micro), (10, 0, 2));
        let img = v("qemu-img version 7.2.17 (Debian)\nCopyright").unwrap();
        assert!(img < NEEDED && ten > NEEDED);
        assert_eq!(v("version 9.1").unwrap().micro, 0);
        assert_eq!(v("GNU bash, version"), None);
        assert_eq!(v("version 99999999999.1.1"), None);
    }

    #[tokio::test]
    async fn an_old_qemu_is_refused_with_the_version_and_the_way_out() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("qemu");
        std::fs::write(&old, "#!/bin/sh\necho QEMU emulator version 7.2.0\n").unwrap();
        std::fs::set_permissions(&old, std::fs::Permissions::from_mode(0o755)).unwrap();
        let error = Installation::find_with(Some(&old), Some(&old))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("7.2.0") && text.contains("9.0.0") && text.contains("backports"));
        let missing = dir.path().join("nothing");
        let error = Installation::find_with(Some(&missing), None)
            .await
            .unwrap_err();
        assert!(matches!(error, InstallationError::NotRunnable { .. }));
    }
}
