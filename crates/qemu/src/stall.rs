//! Why a guest stands still: which of its disks could not be read or written.

use crate::process::{Process, lacking};
use crate::qmp::QmpError;
use crate::spec::Id;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long QEMU and a server may take to agree on how they talk.
const GREETING: Duration = Duration::from_millis(200);

/// A drive whose reads or writes have failed since the guest last ran. QEMU holds what has failed,
/// and tries it again when the guest goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskTrouble {
    /// The drive.
    pub drive: Id,
    /// The file that it writes to.
    pub path: Option<PathBuf>,
    /// Whether it was for want of space; any other failure if not.
    pub no_space: bool,
}

impl Process {
    /// The drives whose reads or writes have failed, as long as the guest stands still for it.
    pub async fn disk_troubles(&self) -> Result<Vec<DiskTrouble>, QmpError> {
        const COMMAND: &str = "query-block";
        let reply = self.qmp().execute(COMMAND, json!({})).await?;
        let mut found = troubles(&reply).ok_or_else(|| lacking(COMMAND, "the list"))?;
        if found.is_empty() {
            return Ok(found);
        }
        for device in self.block_devices().await? {
            if let Some(trouble) = found.iter_mut().find(|t| t.drive == device.drive) {
                trouble.path = device.active().map(|node| node.path.clone());
            }
        }
        Ok(found)
    }
}

impl Process {
    /// Whether QEMU has found its way to all the servers of its disks again, after it has been
    /// made to try. Only while the guest stands still in [`RunState::IoError`]: otherwise QEMU
    /// would wait for them, and the guest with it.
    ///
    /// A guest that is let go on before would fail again, and one that polls an IDE drive, as
    /// firmware does, could lose a write (see there).
    ///
    /// [`RunState::IoError`]: crate::process::RunState::IoError
    pub async fn reaches_servers(&self) -> Result<bool, QmpError> {
        let mut all = true;
        for server in &self.served().servers {
            let export = &server.export;
            let connected = server.identity.is_alive() && is_connected(&export.socket);
            if connected {
                // The two may still be talking; QEMU takes the connection up with what it wants
                // next of it.
                tokio::time::sleep(GREETING).await;
            }
            // QMP has no command for it, and this one does not tell whether it failed.
            let line = format!("qemu-io {} \"read 0 512\"", export.node);
            let arguments = json!({"command-line": line});
            self.qmp()
                .execute("human-monitor-command", arguments)
                .await?;
            all = all && connected;
        }
        Ok(all)
    }
}

/// Whether somebody is connected to a Unix socket.
fn is_connected(socket: &Path) -> bool {
    std::fs::read_to_string("/proc/net/unix").is_ok_and(|table| has_client(&table, socket))
}

/// The server's end of a connection has the name of the socket and the state 03 (connected).
fn has_client(table: &str, socket: &Path) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(5) == Some("03") && fields.nth(1).map(Path::new) == Some(socket)
    })
}

fn troubles(reply: &Value) -> Option<Vec<DiskTrouble>> {
    let text = |device: &Value, key| device.get(key).and_then(Value::as_str).map(str::to_owned);
    let devices = reply.as_array()?.iter();
    let found = devices.filter_map(|device| {
        let status = text(device, "io-status")?;
        let drive = Id::new(text(device, "qdev")?).ok()?;
        (status != "ok").then_some(DiskTrouble {
            drive,
            path: None,
            no_space: status == "nospace",
        })
    });
    Some(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_client_when_one_end_of_it_is_connected() {
        let table = "Num RefCount Protocol Flags Type St Inode Path\n\
                     0000: 00000002 00000000 00010000 0001 01 9 /run/a.sock\n\
                     0000: 00000003 00000000 00000000 0001 03 9 /run/b.sock\n\
                     0000: 00000003 00000000 00000000 0001 03 9\n";
        assert!(!has_client(table, Path::new("/run/a.sock")));
        assert!(has_client(table, Path::new("/run/b.sock")));
    }

    #[test]
    fn only_drives_of_ours_that_have_failed_are_in_trouble() {
        let reply = json!([
            {"qdev": "ide0-0", "io-status": "ok"},
            {"qdev": "ide0-1", "io-status": "nospace"},
            {"qdev": "scsi0-0", "io-status": "failed"},
            {"qdev": "ide1-0"},
            {"io-status": "failed"},
        ]);
        let found: Vec<_> = troubles(&reply)
            .unwrap()
            .into_iter()
            .map(|t| (t.drive.to_string(), t.no_space))
            .collect();
        assert_eq!(found, [("ide0-1".into(), true), ("scsi0-0".into(), false)]);
        assert!(troubles(&json!({})).is_none());
    }
}
