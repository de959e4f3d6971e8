//! QEMU's monitor protocol over a Unix socket: one request, one reply, and events in between.
//!
//! QEMU's end may die, hang or send nonsense; every waiter then gets an error, and nothing here
//! panics or grows without a limit. Events come in two ways: [`Qmp::subscribe`] for observers, who
//! may miss some when they are slow, and [`Qmp::record`] for protocols that must see every one of
//! [`RECORDED`]; replies and events reach a [`Recorder`] in the order QEMU sent them.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// The longest line that is accepted from QEMU.
pub const MAX_LINE: usize = 8 << 20;
/// How long a request may take where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Events that a [`Recorder`] keeps.
pub const RECORDED: [&str; 16] = [
    "STOP",
    "RESUME",
    "MIGRATION",
    "BLOCK_IO_ERROR",
    "BLOCK_JOB_CANCELLED",
    "BLOCK_JOB_COMPLETED",
    "BLOCK_JOB_ERROR",
    "BLOCK_JOB_PENDING",
    "BLOCK_JOB_READY",
    "JOB_STATUS_CHANGE",
    "SHUTDOWN",
    "RESET",
    "POWERDOWN",
    "GUEST_PANICKED",
    "SUSPEND",
    "WAKEUP",
];
/// How many events a [`Recorder`] holds before it says that it lost some.
pub const MAX_RECORDED: usize = 16 * 1024;

const BROADCAST_DEPTH: usize = 1024;
const MAX_WAITING: usize = 1024;
/// Lines that may come before the greeting: what QEMU had to say to whoever was connected before.
const MOST_LEFT_OVER: usize = 16;

/// Something that happened in QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// QEMU's name of it, for example `STOP`.
    pub name: String,
    /// What QEMU says about it; an object, possibly empty.
    pub data: Value,
    /// When, by QEMU's clock, in microseconds since 1970.
    pub timestamp_micros: i64,
}

/// The result of a command, or the class and description of its error.
pub type Answer = Result<Value, (String, String)>;

/// One line from QEMU.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Message {
    /// The first line of a connection, with QEMU's version.
    Greeting { version: Value },
    /// The reply to the request `id`; an error has class and description.
    Reply { id: Option<u64>, result: Answer },
    /// An event.
    Event(Event),
    /// Valid JSON, but none of the above.
    Unknown,
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum QmpError {
    #[error("QEMU's monitor at {path} cannot be reached: {cause}. The process has probably ended.")]
    Unreachable { path: String, cause: String },
    #[error(
        "QEMU's monitor at {path} did not greet within {millis} ms. QEMU hangs, or another client \
         holds this monitor."
    )]
    NoGreeting { path: String, millis: u128 },
    #[error("The peer at {path} does not speak QMP.")]
    NotQmp { path: String },
    #[error("QEMU's monitor was disconnected: {cause}.")]
    Disconnected { cause: Disconnection },
    #[error("QEMU did not answer \"{command}\" within {millis} ms.")]
    TimedOut { command: String, millis: u128 },
    #[error("QEMU refused \"{command}\": {description} ({class}).")]
    Refused {
        command: String,
        class: String,
        description: String,
    },
    #[error("QEMU's answer to \"{command}\" lacks {lacking}.")]
    BadReply {
        command: String,
        lacking: &'static str,
    },
    #[error("More than {MAX_RECORDED} events came at once; some are lost.")]
    EventsLost,
    #[error("More than {MAX_WAITING} requests wait for an answer already.")]
    TooManyRequests,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Disconnection {
    #[error("QEMU closed the connection")]
    Closed,
    #[error("{0}")]
    Io(String),
    #[error("QEMU sent a line of more than {MAX_LINE} bytes")]
    LineTooLong,
    #[error("QEMU sent something that is not a QMP message")]
    Garbage,
}

impl QmpError {
    /// Whether QEMU itself refused, with this class of error.
    pub fn is_class(&self, wanted: &str) -> bool {
        matches!(self, QmpError::Refused { class, .. } if class == wanted)
    }
}

/// Reads one line of the protocol. `None`: not JSON, or not an object.
pub fn parse(line: &[u8]) -> Option<Message> {
    let Value::Object(mut fields) = serde_json::from_slice(line).ok()? else {
        return None;
    };
    let id = fields.get("id").and_then(Value::as_u64);
    if let Some(result) = fields.remove("return") {
        return Some(Message::Reply {
            id,
            result: Ok(result),
        });
    }
    if let Some(error) = fields.get("error") {
        let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default();
        return Some(Message::Reply {
            id,
            result: Err((text("class").into(), text("desc").into())),
        });
    }
    if let Some(Value::String(name)) = fields.get("event") {
        let time = |key| {
            let stamp = fields.get("timestamp").and_then(|t| t.get(key));
            stamp.and_then(Value::as_i64).unwrap_or(0)
        };
        let micros = time("seconds")
            .saturating_mul(1_000_000)
            .saturating_add(time("microseconds"));
        return Some(Message::Event(Event {
            name: name.clone(),
            timestamp_micros: micros,
            data: fields.remove("data").unwrap_or_else(|| json!({})),
        }));
    }
    if let Some(greeting) = fields.get("QMP") {
        let version = greeting.get("version").cloned().unwrap_or(Value::Null);
        return Some(Message::Greeting { version });
    }
    Some(Message::Unknown)
}

/// A connection to a monitor. Clones share it; it closes when the last is dropped.
#[derive(Clone)]
pub struct Qmp {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Vec<u8>>,
    /// Ends the two tasks with the last clone.
    _tasks: Arc<Tasks>,
    peer: Option<i32>,
}

struct Tasks(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

struct Shared {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    /// True once the connection has ended.
    ended: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    recorders: Vec<Weak<Tape>>,
    end: Option<Disconnection>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every waiter with the reason; the first reason counts.
    fn end(&self, cause: Disconnection) {
        let mut state = self.state();
        state.end.get_or_insert(cause);
        state.waiting.clear();
        for tape in state.recorders.drain(..) {
            if let Some(tape) = tape.upgrade() {
                tape.changed.send_modify(|n| *n += 1);
            }
        }
        drop(state);
        self.ended.send_replace(true);
    }

    fn end_error(&self) -> QmpError {
        let cause = self.state().end.clone();
        QmpError::Disconnected {
            cause: cause.unwrap_or(Disconnection::Closed),
        }
    }

    fn deliver(&self, event: Event) {
        if RECORDED.contains(&event.name.as_str()) {
            let mut state = self.state();
            state.recorders.retain(|tape| match tape.upgrade() {
                Some(tape) => {
                    tape.push(&event);
                    true
                }
                None => false,
            });
        }
        // An error only says that nobody observes.
        let _ = self.events.send(event);
    }
}

impl Qmp {
    /// Connects to the monitor at `path` and makes it ready for requests.
    pub async fn connect(path: &Path, patience: Duration) -> Result<Qmp, QmpError> {
        let shown = path.display().to_string();
        let unreachable = |cause: std::io::Error| QmpError::Unreachable {
            path: path.display().to_string(),
            cause: cause.to_string(),
        };
        let silent = |_| QmpError::NoGreeting {
            path: path.display().to_string(),
            millis: patience.as_millis(),
        };
        let greet = async {
            let stream = UnixStream::connect(path).await.map_err(unreachable)?;
            let peer = stream.peer_cred().ok().and_then(|c| c.pid());
            let (read, write) = stream.into_split();
            let mut reader = BufReader::new(read);
            let mut line = Vec::new();
            for before in 0..MOST_LEFT_OVER {
                line.clear();
                match read_line(&mut reader, &mut line).await {
                    Ok(()) => {}
                    Err(_) if before > 0 => break,
                    Err(cause) => return Err(QmpError::Disconnected { cause }),
                }
                if let Some(Message::Greeting { .. }) = parse(&line) {
                    return Ok((reader, write, peer));
                }
                // The end of a message, or a whole one.
                if !line.trim_ascii_end().ends_with(b"}") {
                    break;
                }
            }
            Err(QmpError::NotQmp { path: shown })
        };
        let (reader, writer, peer) = tokio::time::timeout(patience, greet)
            .await
            .map_err(silent)??;
        let qmp = Qmp::run(reader, writer, peer);
        qmp.execute_within("qmp_capabilities", json!({}), patience)
            .await?;
        Ok(qmp)
    }

    fn run(reader: BufReader<OwnedReadHalf>, writer: OwnedWriteHalf, peer: Option<i32>) -> Qmp {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            events: broadcast::channel(BROADCAST_DEPTH).0,
            ended: watch::channel(false).0,
        });
        let (requests, queue) = mpsc::channel(64);
        let tasks = vec![
            tokio::spawn(read_all(reader, shared.clone())),
            tokio::spawn(write_all(writer, queue, shared.clone())),
        ];
        Qmp {
            shared,
            requests,
            _tasks: Arc::new(Tasks(tasks)),
            peer,
        }
    }

    /// The process at the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Option<i32> {
        self.peer
    }

    /// Runs a command and waits for its result, at most [`PATIENCE`].
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, PATIENCE).await
    }

    /// Runs a command and waits for its result. Dropping the future forgets the result; QEMU runs
    /// the command all the same.
    pub async fn execute_within(
        &self,
        command: &str,
        arguments: Value,
        patience: Duration,
    ) -> Result<Value, QmpError> {
        let exchange = async {
            let pending = self.submit(&[(command, arguments)]).await?;
            match pending.into_iter().next() {
                Some(pending) => pending.reply().await,
                None => Err(self.shared.end_error()),
            }
        };
        within(command, patience, exchange).await
    }

    /// Sends commands in one piece. QEMU runs them one after the other, without waiting for us in
    /// between, also when one of them fails.
    pub async fn submit<'a>(
        &'a self,
        requests: &[(&'a str, Value)],
    ) -> Result<Vec<Pending<'a>>, QmpError> {
        let mut lines = Vec::new();
        let mut pending = Vec::new();
        for (command, arguments) in requests {
            let (id, reply) = self.register()?;
            let forget = Forget { qmp: self, id };
            let request = json!({"execute": command, "arguments": arguments, "id": id});
            lines.extend(request.to_string().into_bytes());
            lines.push(b'\n');
            pending.push(Pending {
                command,
                reply,
                forget,
            });
        }
        match self.requests.send(lines).await {
            Ok(()) => Ok(pending),
            Err(_) => Err(self.shared.end_error()),
        }
    }

    /// Sends a command but for its last byte, so that QEMU will carry it out in the moment it gets
    /// that byte. QEMU reads what it is told byte by byte, two to five microseconds each: of a
    /// command of some hundred bytes, reading it is most of what it takes.
    ///
    /// Nothing else may be sent on this connection meanwhile, so it is taken; there must be no
    /// clones of it.
    pub async fn load(self, command: &'static str, arguments: Value) -> Result<Loaded, QmpError> {
        let (id, reply) = self.register()?;
        let request = json!({"execute": command, "arguments": arguments, "id": id});
        let mut line = request.to_string().into_bytes();
        let last = line.split_off(line.len().saturating_sub(1));
        let length = line.len();
        match self.requests.send(line).await {
            Ok(()) => Ok(Loaded {
                qmp: self,
                command,
                reply,
                last,
                length,
            }),
            Err(_) => Err(self.shared.end_error()),
        }
    }

    fn register(&self) -> Result<(u64, oneshot::Receiver<Answer>), QmpError> {
        let mut state = self.shared.state();
        if let Some(cause) = &state.end {
            return Err(QmpError::Disconnected {
                cause: cause.clone(),
            });
        }
        if state.waiting.len() >= MAX_WAITING {
            return Err(QmpError::TooManyRequests);
        }
        state.last_id += 1;
        let (sender, receiver) = oneshot::channel();
        let id = state.last_id;
        state.waiting.insert(id, sender);
        Ok((id, receiver))
    }

    /// Observes events from now on; a slow observer loses the oldest (and is told so).
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Records the events of [`RECORDED`] from now on, without loss.
    pub fn record(&self) -> Recorder {
        let tape = Arc::new(Tape {
            events: Mutex::default(),
            changed: watch::channel(0).0,
        });
        self.shared.state().recorders.push(Arc::downgrade(&tape));
        Recorder {
            tape,
            shared: self.shared.clone(),
        }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        *self.shared.ended.borrow()
    }

    /// Waits until the connection ends.
    pub async fn closed(&self) {
        let mut ended = self.shared.ended.subscribe();
        // The sender lives as long as `self`.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// A command on its way. Dropping it forgets the result; QEMU runs the command all the same.
#[must_use = "its result says whether it was done"]
pub struct Pending<'a> {
    command: &'a str,
    reply: oneshot::Receiver<Answer>,
    forget: Forget<'a>,
}

impl Pending<'_> {
    /// Waits for the result for as long as the connection lasts.
    pub async fn reply(self) -> Result<Value, QmpError> {
        match self.reply.await {
            Ok(answer) => result(self.command, answer),
            Err(_) => Err(self.forget.qmp.shared.end_error()),
        }
    }
}

/// A command that lacks its last byte. Dropped, it is never carried out: the connection closes.
pub struct Loaded {
    qmp: Qmp,
    command: &'static str,
    reply: oneshot::Receiver<Answer>,
    last: Vec<u8>,
    length: usize,
}

impl Loaded {
    /// How many bytes QEMU has to read before it is ready.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Lets QEMU carry it out, and waits for the result for as long as the connection lasts.
    pub async fn fire(self) -> Result<Value, QmpError> {
        if self.qmp.requests.send(self.last).await.is_err() {
            return Err(self.qmp.shared.end_error());
        }
        match self.reply.await {
            Ok(answer) => result(self.command, answer),
            Err(_) => Err(self.qmp.shared.end_error()),
        }
    }
}

fn result(command: &str, answer: Answer) -> Result<Value, QmpError> {
    answer.map_err(|(class, description)| QmpError::Refused {
        command: command.into(),
        class,
        description,
    })
}

async fn within<T>(
    command: &str,
    patience: Duration,
    exchange: impl Future<Output = Result<T, QmpError>>,
) -> Result<T, QmpError> {
    tokio::time::timeout(patience, exchange)
        .await
        .unwrap_or_else(|_| {
            Err(QmpError::TimedOut {
                command: command.into(),
                millis: patience.as_millis(),
            })
        })
}

/// Frees the place of a request whose caller has gone.
struct Forget<'a> {
    qmp: &'a Qmp,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.qmp.shared.state().waiting.remove(&self.id);
    }
}

async fn write_all(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    shared: Arc<Shared>,
) {
    let mut ended = shared.ended.subscribe();
    let write = async {
        while let Some(line) = queue.recv().await {
            if let Err(error) = writer.write_all(&line).await {
                shared.end(Disconnection::Io(error.to_string()));
                return;
            }
        }
    };
    // The socket closes with both of its halves: when nobody reads any more, writing ends too.
    tokio::select! {
        () = write => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

async fn read_all(mut reader: BufReader<OwnedReadHalf>, shared: Arc<Shared>) {
    let mut line = Vec::new();
    let cause = loop {
        if let Err(cause) = read_line(&mut reader, &mut line).await {
            break cause;
        }
        match parse(&line) {
            Some(Message::Event(event)) => shared.deliver(event),
            Some(Message::Reply {
                id: Some(id),
                result,
            }) => {
                let waiter = shared.state().waiting.remove(&id);
                if let Some(waiter) = waiter {
                    // An error only says that the caller has gone.
                    let _ = waiter.send(result);
                }
            }
            Some(other) => tracing::debug!(?other, "unexpected QMP message ignored"),
            None => break Disconnection::Garbage,
        }
        // One huge reply must not hold its memory for ever.
        if line.capacity() > 256 << 10 {
            line = Vec::new();
        }
    };
    shared.end(cause);
}

/// Reads up to the next line feed into `line`, which is emptied first.
async fn read_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> Result<(), Disconnection> {
    line.clear();
    loop {
        let bytes = reader
            .fill_buf()
            .await
            .map_err(|e| Disconnection::Io(e.to_string()))?;
        if bytes.is_empty() {
            return Err(Disconnection::Closed);
        }
        let (used, ends) = match bytes.iter().position(|b| *b == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), false),
        };
        if line.len() + used > MAX_LINE {
            return Err(Disconnection::LineTooLong);
        }
        line.extend(bytes.iter().take(used));
        reader.consume(used);
        if ends {
            return Ok(());
        }
    }
}

/// Every event of [`RECORDED`] since it was made, in order.
pub struct Recorder {
    tape: Arc<Tape>,
    shared: Arc<Shared>,
}

struct Tape {
    events: Mutex<Vec<Event>>,
    changed: watch::Sender<u64>,
}

impl Tape {
    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more than [`MAX_RECORDED`] is kept, as the mark of a loss.
    fn push(&self, event: &Event) {
        let mut events = self.events();
        if events.len() <= MAX_RECORDED {
            events.push(event.clone());
        }
        drop(events);
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Recorder {
    /// All events so far.
    pub fn events(&self) -> Result<Vec<Event>, QmpError> {
        let events = self.tape.events();
        if events.len() > MAX_RECORDED {
            return Err(QmpError::EventsLost);
        }
        Ok(events.clone())
    }

    /// Waits until `wanted` finds what it looks for among all events so far.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&[Event]) -> Option<T>,
    ) -> Result<T, QmpError> {
        let mut changed = self.tape.changed.subscribe();
        let find = async {
            loop {
                changed.mark_unchanged();
                let ended = *self.shared.ended.borrow() || self.shared.state().end.is_some();
                if let Some(found) = wanted(&self.events()?) {
                    return Ok(found);
                }
                if ended || changed.changed().await.is_err() {
                    return Err(self.shared.end_error());
                }
            }
        };
        tokio::time::timeout(patience, find)
            .await
            .unwrap_or_else(|_| {
                Err(QmpError::TimedOut {
                    command: what.into(),
                    millis: patience.as_millis(),
                })
            })
    }
}
