//! The guest agent: a program in the guest that freezes its file systems, shuts it down and tells
//! about it, over a serial channel (QEMU's guest agent protocol, `qga/qapi-schema.json`).
//!
//! It is the guest's own program, so nothing that it says is trusted and everything is bounded: the
//! length of a line, the length of texts, the time for an answer. The agent keeps no connection:
//! each [`Session`] makes its own, finds its place in the stream (`guest-sync-delimited`) and is
//! given up at the first thing that is not as it should be. One session at a time.
//!
//! Start at [`Channel::open`]; `wire` reads the bytes, `facts` the answers. What the answers are
//! good for is decided above.

pub mod facts;
pub mod wire;

use crate::process::Process;
use crate::qmp::QmpError;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, MutexGuard};
use wire::{DELIMITER, Lines};

/// The channel's name, by which agents in guests look for it.
pub const PORT_NAME: &str = "org.qemu.guest_agent.0";
/// The channel's socket in the run folder.
pub const SOCKET_NAME: &str = "agent.sock";
/// QEMU's id of the channel's character device.
pub(crate) const CHARDEV: &str = "agent";

/// How long QEMU may take to say whether somebody in the guest listens.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How many bytes are read at once.
const CHUNK: usize = 4096;
/// How much a guest may send for one answer, old lines included.
const MAX_BYTES: usize = 4 << 20;

/// Why the agent did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AgentError {
    #[error("The machine was started without a channel for a guest agent.")]
    NoChannel,
    #[error("No guest agent runs in the guest.")]
    Absent,
    #[error("The guest agent's channel cannot be used: {cause}.")]
    Unreachable { cause: String },
    #[error("The guest agent did not answer \"{command}\" within {millis} ms.")]
    Silent { command: &'static str, millis: u128 },
    #[error("The guest agent's answer to \"{command}\" is longer than can be.")]
    TooLong { command: &'static str },
    #[error("The guest agent's answer to \"{command}\" makes no sense.")]
    Nonsense { command: &'static str },
    #[error("The guest agent refused \"{command}\": {description} ({class}).")]
    Refused {
        command: &'static str,
        class: String,
        description: String,
    },
}

impl AgentError {
    /// Whether the agent itself said that it cannot do that.
    pub fn is_refusal(&self) -> bool {
        matches!(self, AgentError::Refused { .. })
    }
}

/// The way to a guest's agent.
#[derive(Debug)]
pub struct Channel {
    socket: PathBuf,
    busy: Mutex<()>,
}

impl Channel {
    /// The channel of the process with the folder `run_dir`.
    pub(crate) fn of(run_dir: &Path) -> Channel {
        Channel {
            socket: run_dir.join(SOCKET_NAME),
            busy: Mutex::new(()),
        }
    }

    /// Whether somebody talks to the agent at present.
    pub fn is_busy(&self) -> bool {
        self.busy.try_lock().is_err()
    }

    /// Waits until nobody else talks to the agent, connects, and finds its place in the stream: what
    /// follows is answered by a living agent. All within `patience`.
    pub async fn open(&self, patience: Duration) -> Result<Session<'_>, AgentError> {
        const COMMAND: &str = "guest-sync-delimited";
        let opening = async {
            let turn = self.busy.lock().await;
            let stream = UnixStream::connect(&self.socket).await.map_err(broken)?;
            let mut session = Session {
                stream,
                lines: Lines::resynchronising(),
                unread: Vec::new(),
                _turn: turn,
            };
            session.synchronise(COMMAND).await?;
            Ok(session)
        };
        within(COMMAND, patience, opening).await
    }
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Session<'a> {
    stream: UnixStream,
    lines: Lines,
    unread: Vec<u8>,
    _turn: MutexGuard<'a, ()>,
}

impl Session<'_> {
    async fn synchronise(&mut self, command: &'static str) -> Result<(), AgentError> {
        // The agent's parser sees it as the end of whatever an earlier client left half-said.
        self.stream.write_all(&[DELIMITER]).await.map_err(broken)?;
        let (number, _) = uuid::Uuid::new_v4().as_u64_pair();
        // JSON readers may know numbers as doubles only.
        let number = number >> 12;
        self.send(command, json!({"id": number})).await?;
        let mut budget = MAX_BYTES;
        loop {
            let line = self.line(command, &mut budget).await?;
            if let Some(Ok(reply)) = wire::parse(&line)
                && reply.as_u64() == Some(number)
            {
                return Ok(());
            }
            self.lines.skip();
        }
    }

    /// Asks, and waits for the answer. After a failure other than a refusal the session is of no
    /// more use.
    pub async fn call(
        &mut self,
        command: &'static str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, AgentError> {
        let answer = async {
            self.send(command, arguments).await?;
            let mut budget = MAX_BYTES;
            let line = self.line(command, &mut budget).await?;
            match wire::parse(&line) {
                Some(Ok(reply)) => Ok(reply),
                Some(Err((class, description))) => Err(AgentError::Refused {
                    command,
                    class,
                    description,
                }),
                None => Err(AgentError::Nonsense { command }),
            }
        };
        within(command, patience, answer).await
    }

    /// Freezes every file system of the guest that can be; answers how many those are.
    pub async fn freeze(&mut self, patience: Duration) -> Result<u32, AgentError> {
        self.count("guest-fsfreeze-freeze", patience).await
    }

    /// Lets file systems be written again; answers how many were frozen until then.
    pub async fn thaw(&mut self, patience: Duration) -> Result<u32, AgentError> {
        self.count("guest-fsfreeze-thaw", patience).await
    }

    async fn count(
        &mut self,
        command: &'static str,
        patience: Duration,
    ) -> Result<u32, AgentError> {
        let reply = self.call(command, json!({}), patience).await?;
        facts::count(&reply).ok_or(AgentError::Nonsense { command })
    }

    /// Whether the agent knows of frozen file systems.
    pub async fn is_frozen(&mut self, patience: Duration) -> Result<bool, AgentError> {
        let command = "guest-fsfreeze-status";
        let reply = self.call(command, json!({}), patience).await?;
        facts::is_frozen(&reply).ok_or(AgentError::Nonsense { command })
    }

    /// What runs in the guest.
    pub async fn os_info(&mut self, patience: Duration) -> Result<facts::OsInfo, AgentError> {
        let reply = self.call("guest-get-osinfo", json!({}), patience).await?;
        Ok(facts::os_info(&reply))
    }

    /// The guest's own name for itself.
    pub async fn host_name(&mut self, patience: Duration) -> Result<String, AgentError> {
        let command = "guest-get-host-name";
        let reply = self.call(command, json!({}), patience).await?;
        let name = reply.get("host-name").and_then(Value::as_str);
        name.map(wire::printable)
            .ok_or(AgentError::Nonsense { command })
    }

    /// The guest's network addresses.
    pub async fn addresses(&mut self, patience: Duration) -> Result<facts::Addresses, AgentError> {
        let command = "guest-network-get-interfaces";
        let reply = self.call(command, json!({}), patience).await?;
        Ok(facts::addresses(&reply))
    }

    /// The agent's own version.
    pub async fn version(&mut self, patience: Duration) -> Result<String, AgentError> {
        let command = "guest-info";
        let reply = self.call(command, json!({}), patience).await?;
        let version = reply.get("version").and_then(Value::as_str);
        version
            .map(wire::printable)
            .ok_or(AgentError::Nonsense { command })
    }

    /// Asks the guest to shut down. There is no answer to it but the guest's end, or a refusal.
    pub async fn shut_down(&mut self, patience: Duration) -> Result<(), AgentError> {
        let command = "guest-shutdown";
        let arguments = json!({"mode": "powerdown"});
        match self.call(command, arguments, patience).await {
            Err(refused @ AgentError::Refused { .. }) => Err(refused),
            Err(AgentError::Silent { .. } | AgentError::Unreachable { .. }) | Ok(_) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn send(&mut self, command: &str, arguments: Value) -> Result<(), AgentError> {
        let mut request = json!({"execute": command});
        if arguments.as_object().is_some_and(|a| !a.is_empty()) {
            request["arguments"] = arguments;
        }
        let line = format!("{request}\n");
        self.stream.write_all(line.as_bytes()).await.map_err(broken)
    }

    async fn line(
        &mut self,
        command: &'static str,
        budget: &mut usize,
    ) -> Result<Vec<u8>, AgentError> {
        let too_long = AgentError::TooLong { command };
        loop {
            let mut rest = self.unread.as_slice();
            let line = self.lines.take(&mut rest);
            let rest = rest.to_vec();
            self.unread = rest;
            match line {
                Ok(Some(line)) => return Ok(line),
                Ok(None) => {}
                Err(wire::LineTooLong) => return Err(too_long),
            }
            let mut chunk = vec![0; CHUNK];
            let read = self.stream.read(&mut chunk).await.map_err(broken)?;
            if read == 0 {
                let cause = "QEMU has closed it".into();
                return Err(AgentError::Unreachable { cause });
            }
            *budget = match budget.checked_sub(read) {
                Some(left) => left,
                None => return Err(too_long),
            };
            chunk.truncate(read);
            self.unread = chunk;
        }
    }
}

impl Process {
    /// The way to the agent in the guest.
    pub fn agent(&self) -> &Channel {
        self.agent_channel()
    }

    /// Whether the machine has a channel for an agent, and somebody in the guest listens to it.
    pub async fn agent_listens(&self) -> Result<bool, AgentError> {
        let qmp = self.qmp();
        let reply = qmp
            .execute_within("query-chardev", json!({}), ANSWER_PATIENCE)
            .await;
        let unreachable = |cause: QmpError| AgentError::Unreachable {
            cause: cause.to_string(),
        };
        let reply = reply.map_err(unreachable)?;
        let devices = reply.as_array().map(Vec::as_slice).unwrap_or_default();
        let own = devices
            .iter()
            .find(|d| d.get("label").and_then(Value::as_str) == Some(CHARDEV));
        let own = own.ok_or(AgentError::NoChannel)?;
        Ok(own.get("frontend-open").and_then(Value::as_bool) == Some(true))
    }

    /// A conversation with the agent in the guest; at once an error where there is none.
    pub async fn talk_to_agent(&self, patience: Duration) -> Result<Session<'_>, AgentError> {
        let began = Instant::now();
        if !self.agent_listens().await? {
            return Err(AgentError::Absent);
        }
        let left = patience.saturating_sub(began.elapsed());
        self.agent().open(left).await
    }
}

async fn within<T>(
    command: &'static str,
    patience: Duration,
    work: impl Future<Output = Result<T, AgentError>>,
) -> Result<T, AgentError> {
    let millis = patience.as_millis();
    tokio::time::timeout(patience, work)
        .await
        .unwrap_or(Err(AgentError::Silent { command, millis }))
}

fn broken(cause: std::io::Error) -> AgentError {
    AgentError::Unreachable {
        cause: cause.to_string(),
    }
}
