//! A connection to QEMU's monitor that outlives this process.
//!
//! While memory is missing, QEMU's main loop may be waiting for it (a device copies into the guest),
//! and then answers nobody: not even a new service that brings that memory. Only one command is
//! taken out of turn, `migrate-recover`, and only on a connection that was made ready for it before.
//! So such a connection is made while all is well, and QEMU itself is given a copy of our end of it:
//! that copy keeps it open when we die, and whoever may debug QEMU can take it from there
//! (`pidfd_getfd`). The number of that copy is in a file in the run folder.

use crate::identity::Identity;
use crate::process::SOCKET_NAMES;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The file with the number, in the run folder.
const FILE: &str = "lifeline";
/// How long QEMU may take for each answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long QEMU may take to notice that a connection is broken.
const NOTICE: Duration = Duration::from_secs(10);
/// How often the reading thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);
/// Stands for the number of a copy that QEMU is to keep.
const LEFT: i64 = -1;
/// The name of the question for the state of the migration.
const STATUS: &str = "status";
/// The longest line that is read.
const MOST_LINE: u64 = 1 << 20;

/// The connection, as long as we live.
pub struct Lifeline {
    stream: UnixStream,
    set: i64,
    file: PathBuf,
    drain: Option<Drain>,
}

/// The thread that reads what QEMU reports, which would pile up in it otherwise.
struct Drain {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Lifeline {
    /// Makes it. Blocks for QEMU's answers.
    pub fn make(run_dir: &Path) -> io::Result<Lifeline> {
        let spare = SOCKET_NAMES.last().copied().unwrap_or_default();
        let stream = UnixStream::connect(run_dir.join(spare))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut from = BufReader::new(stream.try_clone()?);
        read_line(&mut from)?;
        let ready = json!({"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]},
                           "id": "ready"});
        (&stream).write_all(line(&ready).as_bytes())?;
        answer(&mut from, "ready")?;
        send_copy(&stream)?;
        let reply = answer(&mut from, "copy")?;
        let number = |key| reply.get(key).and_then(Value::as_i64);
        let (Some(copy), Some(set)) = (number("fd"), number("fdset-id")) else {
            return Err(io::Error::other("QEMU does not say what it took"));
        };
        let file = run_dir.join(FILE);
        std::fs::write(&file, format!("{copy} {set}"))?;
        Lifeline::of(stream, set, file, from)
    }

    fn of(
        stream: UnixStream,
        set: i64,
        file: PathBuf,
        from: BufReader<UnixStream>,
    ) -> io::Result<Lifeline> {
        let mut lifeline = Lifeline {
            stream,
            set,
            file,
            drain: None,
        };
        lifeline.drain(from)?;
        Ok(lifeline)
    }

    /// Leaves it to whoever brings the rest of the memory, in this process or in another one.
    pub fn leave(mut self) {
        if let Some(drain) = self.drain.take() {
            drain.stop.store(true, Ordering::Relaxed);
            // It looks at that often.
            let _ = drain.thread.join();
        }
        self.set = LEFT;
    }

    fn drain(&mut self, mut from: BufReader<UnixStream>) -> io::Result<()> {
        self.stream.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("memory-line".into());
        let thread = thread.spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let length = match from.fill_buf() {
                    Ok(bytes) if !bytes.is_empty() => bytes.len(),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    _ => return,
                };
                from.consume(length);
            }
        })?;
        self.drain = Some(Drain { stop, thread });
        Ok(())
    }
}

impl Drop for Lifeline {
    /// Gives the copy up as well, so that the monitor is free for others.
    fn drop(&mut self) {
        if self.set == LEFT {
            return;
        }
        let _ = std::fs::remove_file(&self.file);
        let remove = json!({"execute": "remove-fd", "arguments": {"fdset-id": self.set}});
        let _ = (&self.stream).write_all(line(&remove).as_bytes());
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Whether a former page server has left a connection.
pub fn is_left(run_dir: &Path) -> bool {
    run_dir.join(FILE).exists()
}

/// Tells a QEMU whose service is gone to take the rest of its memory at `uri`, out of turn. Blocks.
pub fn recover(run_dir: &Path, identity: &Identity, uri: &str) -> io::Result<Lifeline> {
    let file = run_dir.join(FILE);
    let text = std::fs::read_to_string(&file)?;
    let (copy, set) = text.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
    let copy: i32 = copy.parse().map_err(io::Error::other)?;
    let set = set.parse().map_err(io::Error::other)?;
    let process = identity.open();
    let process = process.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let taken = pidfd_getfd(process, copy, PidfdGetfdFlags::empty())?;
    let stream = UnixStream::from(taken);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut from = BufReader::new(stream.try_clone()?);
    let began = Instant::now();
    let mut asked = false;
    for attempt in 0u32.. {
        let id = format!("recover-{attempt}");
        let request = json!({"exec-oob": "migrate-recover", "arguments": {"uri": uri}, "id": id});
        (&stream).write_all(line(&request).as_bytes())?;
        // In its turn, so the answer comes only when the main loop waits for nothing: one at a time.
        if !asked {
            let request = json!({"execute": "query-migrate", "id": STATUS});
            (&stream).write_all(line(&request).as_bytes())?;
            asked = true;
        }
        match answer_beside(&mut from, &id, &mut asked) {
            Ok(_) => break,
            // It has not noticed yet that its memory has ceased to come.
            Err(error) if error.kind() == io::ErrorKind::Other && began.elapsed() < NOTICE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                // Nobody needs the connection any more, and others need the monitor.
                drop(Lifeline::of(stream, set, file, from));
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    Lifeline::of(stream, set, file, from)
}

fn line(request: &Value) -> String {
    format!("{request}\n")
}

fn send_copy(stream: &UnixStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut extra = SendAncillaryBuffer::new(&mut space);
    let copies = [stream.as_fd()];
    if !extra.push(SendAncillaryMessage::ScmRights(&copies)) {
        return Err(io::Error::other("a descriptor does not fit a message"));
    }
    let request = line(&json!({"execute": "add-fd", "id": "copy"}));
    let sent = sendmsg(
        stream,
        &[IoSlice::new(request.as_bytes())],
        &mut extra,
        SendFlags::empty(),
    )?;
    match sent == request.len() {
        true => Ok(()),
        false => Err(io::Error::from(io::ErrorKind::WriteZero)),
    }
}

/// The result of the request with this name; what QEMU refuses is [`io::ErrorKind::Other`].
fn answer(from: &mut BufReader<UnixStream>, id: &str) -> io::Result<Value> {
    answer_beside(from, id, &mut false)
}

/// The same while QEMU may also be `asked` for the state of the migration. An answer to that which
/// says that no memory is missing any more is [`io::ErrorKind::NotConnected`].
fn answer_beside(
    from: &mut BufReader<UnixStream>,
    id: &str,
    asked: &mut bool,
) -> io::Result<Value> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let bytes = read_line(from)?;
        // The first line may lack its beginning, which another process has read.
        let Ok(mut message) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        let answers = message.get("id").and_then(Value::as_str);
        if answers == Some(STATUS) {
            *asked = false;
            let status = message.pointer("/return/status").and_then(Value::as_str);
            if status == Some("completed") {
                let kind = io::ErrorKind::NotConnected;
                return Err(io::Error::new(kind, "all of its memory is there"));
            }
            continue;
        }
        if answers != Some(id) {
            continue;
        }
        if let Some(result) = message.get_mut("return") {
            return Ok(result.take());
        }
        let description = message.get("error").and_then(|e| e.get("desc"));
        let description = description.and_then(Value::as_str).unwrap_or("no reason");
        return Err(io::Error::other(description.to_owned()));
    }
    Err(io::Error::from(io::ErrorKind::TimedOut))
}

fn read_line(from: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::take(from, MOST_LINE).read_until(b'\n', &mut bytes)?;
    match bytes.last() {
        Some(b'\n') => Ok(bytes),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
    }
}
