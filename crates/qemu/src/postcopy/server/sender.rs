//! The thread that reads pages and sends them: which, when, and in which order.

use super::super::ahead::Ahead;
use super::super::devices;
use super::super::pages::{HostPage, Outstanding};
use super::super::wire::{PAGE, Stream};
use super::{HUGE_PAGE, SENT_FIRST, Shared, Stage, State};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pages that are pushed before requests are looked at again.
const PUSHED_AT_ONCE: u64 = 32;
/// As long as the guest asks so soon again, nothing else is sent: whatever is on its way when it asks
/// makes it wait longer.
const QUIET: Duration = Duration::from_millis(100);
/// The longest time for which that holds, from the moment in which the guest can run.
const ALONE: Duration = Duration::from_millis(500);
/// Neighbours of a small page that was asked for are sent all the same, so many of them.
const NEIGHBOURS: u64 = HUGE_PAGE / PAGE;
/// How long until a page that could not be read is tried again.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// What the writer begins with.
pub(super) enum Task {
    Begin,
    GoOn,
}

/// The side that sends.
pub(super) struct Sender<'a> {
    shared: &'a Shared,
    to: UnixStream,
    stream: Stream,
    outstanding: Outstanding,
    ahead: Ahead,
    buffer: Vec<u8>,
    /// Nothing is sent but what the guest asks for, and so many pages of the guest.
    alone_with: Option<u64>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(shared: &'a Shared, to: UnixStream) -> Sender<'a> {
        Sender {
            shared,
            to,
            stream: Stream::default(),
            outstanding: Outstanding::new(&shared.blocks),
            ahead: Ahead::of(shared.source.clone()),
            buffer: Vec::new(),
            alone_with: None,
        }
    }

    pub(super) fn run(&mut self, task: Task) -> Result<(), String> {
        let ram = self.shared.source.ram_section();
        match task {
            Task::Begin => {
                let source = &self.shared.source;
                let blocks = &self.shared.blocks;
                self.stream.beginning(source.configuration(), ram, blocks);
                let devices = devices::sections(source.devices()).map_err(|e| e.to_string())?;
                self.stream.package(devices).map_err(|e| e.to_string())?;
                self.send()?;
                self.alone_with = Some(0);
            }
            Task::GoOn => self.agree()?,
        }
        self.stream.begin_pages(ram);
        self.send()?;
        self.serve_first()?;
        self.serve()?;
        self.shared.state().all_sent = true;
        self.stream.end(ram);
        self.send()
    }

    fn send(&mut self) -> Result<(), String> {
        let sent = self.to.write_all(self.stream.bytes());
        self.stream.clear();
        sent.map_err(|error| error.to_string())
    }

    /// After a broken connection: finds out what QEMU has, and lets it ask again.
    fn agree(&mut self) -> Result<(), String> {
        let blocks = &self.shared.blocks;
        for block in blocks {
            self.stream.ask_received(block);
        }
        self.send()?;
        let received = self.wait_until(|state| {
            let all = state.received.len() == blocks.len();
            all.then(|| std::mem::take(&mut state.received))
        })?;
        for (block, bits) in &received {
            self.outstanding.received(*block, bits);
        }
        self.stream.resume();
        self.send()?;
        self.wait_until(|state| {
            state.loaded |= state.resumed;
            state.resumed.then_some(())
        })?;
        self.shared.stage.send_replace(Stage::Serving);
        Ok(())
    }

    fn wait_until<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> Result<T, String> {
        let mut state = self.shared.state();
        loop {
            if let Some(found) = ready(&mut state) {
                return Ok(found);
            }
            if self.shared.is_stopped() {
                return Err("it was stopped".into());
            }
            let woken = self.shared.heard.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends the pages that the guest will want first: it does not have to ask for them then.
    fn serve_first(&mut self) -> Result<(), String> {
        let mut sent = 0;
        let wanted = self.shared.source.wanted_first(SENT_FIRST);
        for (block, number) in self.shared.asked.before(wanted, SENT_FIRST) {
            if sent >= SENT_FIRST as u64 {
                break;
            }
            loop {
                let request = self.shared.state().requests.pop_front();
                match request {
                    Some((page, since)) => self.answer(page, since)?,
                    None => break,
                }
            }
            if self.shared.is_stopped() {
                return Err("it was stopped".into());
            }
            let page = self.outstanding.at(block, number.saturating_mul(PAGE));
            if let Some(page) = page.filter(|page| !self.outstanding.is_sent(*page)) {
                self.put(page, 1)?;
                self.send()?;
                sent += self.outstanding.guest_pages(block);
            }
        }
        Ok(())
    }

    /// Sends every page: those asked for first. Ends only when QEMU has taken the devices: devices
    /// may ask for pages of zeros, which are not sent otherwise, and QEMU itself ends only with
    /// them.
    fn serve(&mut self) -> Result<(), String> {
        loop {
            if self.shared.is_stopped() {
                return Err("it was stopped".into());
            }
            let request = self.shared.state().requests.pop_front();
            if let Some((page, since)) = request {
                self.answer(page, since)?;
                continue;
            }
            if self.leaves_alone() {
                continue;
            }
            let source = self.shared.source.as_ref();
            let Some((first, pages)) = self.outstanding.next(source, PUSHED_AT_ONCE) else {
                let more = self.wait_until(|state| match state.requests.is_empty() {
                    true => state.loaded.then_some(false),
                    false => Some(true),
                })?;
                if more {
                    continue;
                }
                return Ok(());
            };
            let of_guest = self.outstanding.guest_pages(first.block);
            self.ahead.reads(first, of_guest);
            self.put(first, pages)?;
            self.send()?;
            if let Some(pages_left) = &mut self.alone_with {
                *pages_left = pages_left.saturating_sub(pages);
            }
        }
    }

    /// Whether nothing but what the guest asks for is to be sent; waits a while, if so.
    fn leaves_alone(&mut self) -> bool {
        if self.alone_with != Some(0) {
            return false;
        }
        let state = self.shared.state();
        if !state.requests.is_empty() || self.shared.is_stopped() {
            return true;
        }
        let left = state.quiet_since.map(|(loaded, last)| {
            let end = (last + QUIET).min(loaded + ALONE);
            end.saturating_duration_since(Instant::now())
        });
        if left == Some(Duration::ZERO) {
            self.alone_with = None;
            return false;
        }
        // Not loaded yet: it is told when that changes.
        let woken = self.shared.heard.wait_timeout(state, left.unwrap_or(QUIET));
        drop(woken);
        true
    }

    fn answer(&mut self, page: HostPage, since: Instant) -> Result<(), String> {
        let shared = self.shared;
        if !self.outstanding.is_sent(page) {
            self.put(page, 1)?;
            self.send()?;
            self.outstanding.go_on_behind(page);
            if self.alone_with.is_some() && self.outstanding.guest_pages(page.block) == 1 {
                self.alone_with = Some(NEIGHBOURS);
            }
        }
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let waited = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.waited_micros.fetch_add(waited, Ordering::Relaxed);
        Ok(())
    }

    /// Puts neighbouring pages of the host into the stream.
    fn put(&mut self, first: HostPage, pages: u64) -> Result<(), String> {
        let shared = self.shared;
        let Some(block) = shared.blocks.get(first.block) else {
            return Ok(());
        };
        let of_guest = self.outstanding.guest_pages(first.block);
        let start = first.number.saturating_mul(of_guest);
        let end = start
            .saturating_add(pages.saturating_mul(of_guest))
            .min(block.length / PAGE);
        let length = usize::try_from(end.saturating_sub(start).saturating_mul(PAGE));
        self.buffer.resize(length.unwrap_or(0), 0);
        let zero = |page| shared.source.is_zero(first.block, page);
        if (start..end).any(|page| !zero(page)) {
            self.read(first.block, start)?;
        }
        let mut data = 0;
        let size = usize::try_from(PAGE).unwrap_or(usize::MAX);
        for (page, bytes) in (start..end).zip(self.buffer.chunks_exact(size)) {
            let offset = page.saturating_mul(PAGE);
            if zero(page) {
                self.stream.zero_page(first.block, block, offset);
            } else {
                self.stream.page(first.block, block, offset, bytes);
                data += PAGE;
            }
        }
        shared.sent.fetch_add(data, Ordering::Relaxed);
        for number in first.number..first.number.saturating_add(pages) {
            let page = HostPage { number, ..first };
            self.outstanding.mark_sent(page);
        }
        Ok(())
    }

    /// Fills the buffer with pages, however long it takes.
    fn read(&mut self, block: usize, first: u64) -> Result<(), String> {
        let shared = self.shared;
        loop {
            let Err(what) = shared.source.read(block, first, &mut self.buffer) else {
                shared.trouble.send_if_modified(|t| t.take().is_some());
                return Ok(());
            };
            tracing::error!(%what, "a guest's memory cannot be read");
            shared.trouble.send_replace(Some(what));
            let again = Instant::now() + READ_AGAIN;
            let mut state = shared.state();
            while let Some(left) = again.checked_duration_since(Instant::now()) {
                if shared.is_stopped() {
                    return Err("it was stopped".into());
                }
                let waited = shared.heard.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}
