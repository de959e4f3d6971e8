//! The commands of a pause, read by QEMU before the pause begins.
//!
//! QEMU reads what it is told byte by byte, which takes milliseconds for the commands that put the
//! overlays on and begin to send memory. So each of them is given to a monitor of its own before the
//! guest stops, but for the last byte; then a byte is all that has to be said.

use super::freezing::{address, transaction, wait_until_captured};
use super::{Frozen, LiveError, Switch};
use crate::live::Pause;
use crate::process::LOADING_SOCKET_NAMES;
use crate::qmp::{Loaded, Qmp, QmpError};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long QEMU may take to greet; while it does, the guest runs.
const GREETING_PATIENCE: Duration = Duration::from_secs(2);
/// A question takes QEMU at least as many bytes to read.
const QUESTION: usize = 40;
/// It is not asked more often than this, whatever it has to read.
const MOST_QUESTIONS: usize = 1000;

/// What is to be done in the pause, in this order.
pub(super) struct Steps {
    switch: Option<Loaded>,
    send: Loaded,
    go_on: Loaded,
}

impl Steps {
    /// Gives QEMU the commands, and waits until it has read them; `qmp` is one more monitor.
    pub async fn load(
        qmp: &Qmp,
        run_dir: &Path,
        switches: &[Switch],
        socket: &Path,
    ) -> Result<Steps, QmpError> {
        let [first, second, third] = LOADING_SOCKET_NAMES;
        let load = async |name, command, arguments: Value| {
            let monitor = Qmp::connect(&run_dir.join(name), GREETING_PATIENCE).await?;
            monitor.load(command, arguments).await
        };
        let channel = json!({"channel-type": "main", "addr": address(socket)});
        let switch = match switches {
            [] => None,
            some => Some(load(first, "transaction", transaction(some)).await?),
        };
        let steps = Steps {
            switch,
            send: load(second, "migrate", json!({"channels": [channel]})).await?,
            go_on: load(third, "cont", json!({})).await?,
        };
        // It reads a byte from each monitor in turn. Not to have waited costs time, nothing else.
        for _ in 0..(steps.longest() / QUESTION).min(MOST_QUESTIONS) {
            qmp.execute("query-status", json!({})).await?;
        }
        Ok(steps)
    }

    fn longest(&self) -> usize {
        let switch = self.switch.as_ref().map_or(0, Loaded::length);
        switch.max(self.send.length())
    }

    /// Stops the guest, does everything, and lets the guest go on in any case. `reached` is told of
    /// each step. What comes after a step that failed is not begun.
    pub async fn carry_out(
        self,
        qmp: &Qmp,
        patience: Duration,
        mut reached: impl FnMut(Frozen),
    ) -> Pause {
        let Steps {
            switch,
            send,
            go_on,
        } = self;
        let began = Instant::now();
        let act = async {
            qmp.execute("stop", json!({})).await?;
            reached(Frozen::Stopped);
            if let Some(switch) = switch {
                switch.fire().await?;
                reached(Frozen::Switched);
            }
            send.fire().await?;
            reached(Frozen::Sending);
            Ok::<(), QmpError>(())
        };
        let millis = patience.as_millis();
        let acted = tokio::time::timeout(patience, act)
            .await
            .unwrap_or_else(|_| {
                Err(QmpError::TimedOut {
                    command: "stop".into(),
                    millis,
                })
            });
        let frozen = match acted {
            Ok(()) => wait_until_captured(qmp, patience.saturating_sub(began.elapsed())).await,
            Err(cause) => Err(LiveError::from(cause)),
        };
        let resumed = match go_on.fire().await {
            // It has said why, or there is another way to tell it.
            Err(QmpError::Disconnected { .. }) => qmp.execute("cont", json!({})).await,
            answer => answer,
        };
        if frozen.is_ok() {
            reached(Frozen::Captured);
        }
        Pause {
            frozen,
            resumed: resumed.map(drop),
        }
    }
}
