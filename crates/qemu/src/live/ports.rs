//! Somebody at the other end of a guest's serial ports while its devices are loaded.
//!
//! A serial port that was captured while its reader did not read waits until it can write again.
//! QEMU takes that up at load, but not on a socket that nobody is connected to: such a port, and a
//! guest that prints to it, would stand still for ever. So each gets a peer until the devices are
//! there; that one leaves, which lets the port go on, and makes room for whoever comes.

use crate::process::Process;
use crate::qmp::QmpError;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// How long QEMU may take to see its peers. It has nothing else to do then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// The peers; dropping it makes them leave.
pub(crate) struct Attended {
    _peers: Vec<UnixStream>,
}

impl Process {
    /// Connects to each serial port that nobody is connected to.
    pub(crate) async fn attend_serial_ports(&self) -> Result<Attended, QmpError> {
        let mut peers = Vec::new();
        for path in self.waiting_ports().await? {
            match UnixStream::connect(&path).await {
                Ok(peer) => peers.push(peer),
                // Whoever was quicker is the peer.
                Err(error) => {
                    tracing::debug!(?path, %error, "a serial port cannot be connected to");
                }
            }
        }
        let began = Instant::now();
        while !peers.is_empty() && !self.waiting_ports().await?.is_empty() {
            if began.elapsed() > PATIENCE {
                tracing::warn!("QEMU does not see who is connected to a serial port");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Attended { _peers: peers })
    }

    /// The sockets of serial ports on which QEMU waits for a peer.
    async fn waiting_ports(&self) -> Result<Vec<PathBuf>, QmpError> {
        let reply = self.qmp().execute("query-chardev", json!({})).await?;
        let all = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let serial = all.iter().filter(|device| {
            let label = device.get("label").and_then(Value::as_str);
            label.is_some_and(|label| label.starts_with("serial"))
        });
        let names = serial.filter_map(|device| device.get("filename").and_then(Value::as_str));
        let paths = names.filter_map(|name| {
            let path = name.strip_prefix("disconnected:unix:")?;
            path.strip_suffix(",server=on")
        });
        Ok(paths.map(PathBuf::from).collect())
    }
}
