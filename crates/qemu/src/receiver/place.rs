//! The placing thread: takes the stream apart, leaves out what need not be stored, hashes the rest
//! and collects it into blocks for the writers.

use super::file::{Target, Written};
use super::ring::BLOCK;
use super::{Piece, ReceiveError, Shared};
use crate::raw::Block;
use ::memory_image::builder::{BuildError, Builder, Output, Plan};
use ::memory_image::stream::{FeedError, Parser};
use rustix::process::{getpriority_process, setpriority_process};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Blocks that are made before anybody may begin: one for so many MiB of the guest's memory, but at
/// least and at most as many; beyond the least, only for so long.
const MADE_FIRST_FOR: u64 = 64;
const MADE_FIRST: (u64, u64) = (8, 64);
const MADE_FIRST_WITHIN: Duration = Duration::from_millis(150);
/// Blocks that are kept free from then on.
const KEPT_FREE: usize = 8;
/// Memory for bytes that are being collected or written.
pub const WRITE_LIMIT: usize = 8 * BLOCK;
/// Threads that write: while one waits for the disk, the other has the next block there already.
const WRITERS: usize = 2;

/// Runs until the file is durable under its temporary name.
pub fn run(shared: &Arc<Shared>) -> Result<Written, ReceiveError> {
    let target = Arc::new(Target::create(shared)?);
    let writers = Writers::start(shared, &target)?;
    let built = build(shared);
    // Whatever was collected is written; after a failure nothing is.
    match &built {
        Ok(_) => shared.writes.finish(),
        Err(error) => shared.fail(error.clone()),
    }
    let written = writers.join();
    let (header, counts) = built?;
    written?;
    target.finish(shared, &header)?;
    Ok(Written {
        target,
        header,
        counts,
    })
}

fn build(
    shared: &Arc<Shared>,
) -> Result<(::memory_image::Header, ::memory_image::builder::Counts), ReceiveError> {
    let config = &shared.config;
    let created = SystemTime::now().duration_since(UNIX_EPOCH);
    let plan = Plan {
        id: config.id,
        parent: config.parent.clone(),
        compression: config.compression,
        origin: config.origin.clone(),
        producer: concat!("rootvirt ", env!("CARGO_PKG_VERSION")).into(),
        created_micros: created.map_or(0, |t| i64::try_from(t.as_micros()).unwrap_or(0)),
    };
    let mut builder = Builder::new(plan, ToWriters(shared)).map_err(refused)?;
    let mut parser = Parser::default();
    let (least, most) = MADE_FIRST;
    let first = (config.origin.ram_mib / MADE_FIRST_FOR).clamp(least, most);
    let number = |blocks| usize::try_from(blocks).unwrap_or(usize::MAX);
    let writes = WRITE_LIMIT / BLOCK;
    shared.writes.make_early(writes, writes, Duration::ZERO);
    let made = (number(first), number(least));
    shared.ring.make_early(made.0, made.1, MADE_FIRST_WITHIN);
    shared.ready.send_replace(true);
    let mut modesty = Modesty::new();
    let for_room = shared.clone();
    let room = std::thread::Builder::new().name("memory-room".into());
    // It is as modest as this thread is now. Without it blocks are made when they are needed.
    let _ = room.spawn(move || for_room.ring.keep_free(KEPT_FREE));
    while let Some((block, filled)) = shared.ring.filled_block() {
        modesty.adapt(shared.ring.used_percent(), shared.ring.is_finished());
        let bytes = block.get(..filled).unwrap_or(&block);
        let fed = parser.feed(bytes, &mut builder);
        shared.ring.recycle(block);
        fed.map_err(|error| match error {
            FeedError::Stream(cause) => ReceiveError::Unknown { cause },
            FeedError::Sink(error) => refused(error),
        })?;
    }
    if shared.ring.is_stopped() {
        return Err(shared.failure().unwrap_or(ReceiveError::Cancelled));
    }
    if shared.received.load(Ordering::Relaxed) == 0 {
        return Err(ReceiveError::Nothing);
    }
    let frame = parser
        .finish()
        .map_err(|cause| ReceiveError::Unknown { cause })?;
    let counts = builder.counts();
    let (header, _) = builder.finish(&frame).map_err(refused)?;
    Ok((header, counts))
}

fn refused(error: BuildError<ReceiveError>) -> ReceiveError {
    match error {
        BuildError::Output(error) => error,
        BuildError::Random(cause) | BuildError::Compressing(cause) => ReceiveError::Memory {
            cause: cause.into(),
        },
        BuildError::NoMemory => ReceiveError::Memory {
            cause: Arc::new(std::io::ErrorKind::OutOfMemory.into()),
        },
        BuildError::MissingPage { block, page } => ReceiveError::Missing { block, page },
    }
}

/// How much lower the thread's priority is while there is room: a tenth of a processor's time or
/// less, if others want it.
const MODEST: i32 = 15;

/// Lets the guest and QEMU's saving thread, which the guest waits for, go before this thread for as
/// long as there is room for what comes. Without the right to be quick again it is never slow.
struct Modesty {
    usual: Option<i32>,
    modest: bool,
}

impl Modesty {
    fn new() -> Modesty {
        let usual = getpriority_process(None).ok();
        let able = usual.filter(|usual| {
            // Lower is more urgent, and not for everybody.
            let tried = setpriority_process(None, usual.saturating_sub(1));
            tried.is_ok() && setpriority_process(None, *usual).is_ok()
        });
        let mut modesty = Modesty {
            usual: able,
            modest: false,
        };
        modesty.adapt(0, false);
        modesty
    }

    /// `used`: how much of the room is, in percent; `over`: nobody waits for what comes any more.
    fn adapt(&mut self, used: usize, over: bool) {
        let modest = match used {
            _ if over => false,
            ..=50 => true,
            51..=75 => self.modest,
            _ => false,
        };
        let Some(usual) = self.usual.filter(|_| modest != self.modest) else {
            return;
        };
        let by = if modest { MODEST } else { 0 };
        // A refusal leaves it as it is, which is asked again with the next block.
        if setpriority_process(None, usual.saturating_add(by).min(19)).is_ok() {
            self.modest = modest;
        }
    }
}

/// Hands blocks to the writers.
struct ToWriters<'a>(&'a Shared);

impl Output for ToWriters<'_> {
    type Buffer = Block;
    type Error = ReceiveError;

    fn buffer(&mut self) -> Result<Block, ReceiveError> {
        self.0.writes.empty_block(&self.0.failure)
    }

    fn write(&mut self, offset: u64, block: Block, length: usize) -> Result<(), ReceiveError> {
        self.0.writes.push(block, Piece { offset, length });
        Ok(())
    }
}

/// The writing threads.
struct Writers(Vec<std::thread::JoinHandle<Result<(), ReceiveError>>>);

impl Writers {
    fn start(shared: &Arc<Shared>, target: &Arc<Target>) -> Result<Writers, ReceiveError> {
        let mut writers = Writers(Vec::new());
        for _ in 0..WRITERS {
            let (shared, target) = (shared.clone(), target.clone());
            let started = std::thread::Builder::new()
                .name("memory-write".into())
                .spawn(move || {
                    // At once, so that the others do not go on for nothing.
                    write(&shared, &target).inspect_err(|error| shared.fail(error.clone()))
                });
            match started {
                Ok(thread) => writers.0.push(thread),
                Err(cause) => {
                    return Err(ReceiveError::Thread {
                        cause: cause.into(),
                    });
                }
            }
        }
        Ok(writers)
    }

    fn join(self) -> Result<(), ReceiveError> {
        let all = self.0.into_iter();
        let ended = all.map(|thread| thread.join().unwrap_or(Err(ReceiveError::Lost)));
        // All of them are waited for.
        ended.fold(Ok(()), Result::and)
    }
}

/// The life of a writing thread.
fn write(shared: &Shared, target: &Target) -> Result<(), ReceiveError> {
    while let Some((block, piece)) = shared.writes.filled_block() {
        let bytes = block.get(..piece.length).unwrap_or(&block);
        target.write(shared, piece.offset, bytes)?;
        let written = bytes.len() as u64;
        shared.written.fetch_add(written, Ordering::Relaxed);
        shared.writes.recycle(block);
    }
    match shared.writes.is_stopped() {
        true => Err(shared.failure().unwrap_or(ReceiveError::Cancelled)),
        false => Ok(()),
    }
}
