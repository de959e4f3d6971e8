//! Guests that get their memory on demand.

use crate::capture::{copy_on, snapshot};
use crate::machine::*;
use qemu::Process;
use qemu::memory_image::{MemoryImage, no_parents};
use qemu::postcopy::{Asked, PageServer, PageSource, PostcopyError, RamSection, Residency};
use qemu::process::RunState;
use qemu::spec::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A source that takes its time, and can be made to fail.
struct Slow {
    inner: MemoryImage,
    each: Duration,
    failing: AtomicBool,
}

impl PageSource for Slow {
    fn blocks(&self) -> Vec<(String, u64)> {
        PageSource::blocks(&self.inner)
    }
    fn configuration(&self) -> &[u8] {
        PageSource::configuration(&self.inner)
    }
    fn devices(&self) -> &[u8] {
        PageSource::devices(&self.inner)
    }
    fn ram_section(&self) -> RamSection {
        PageSource::ram_section(&self.inner)
    }
    fn is_zero(&self, block: usize, page: u64) -> bool {
        PageSource::is_zero(&self.inner, block, page)
    }
    fn read(&self, block: usize, first: u64, buffer: &mut [u8]) -> Result<(), String> {
        if self.failing.load(Ordering::Relaxed) {
            return Err("the disk is on fire".into());
        }
        std::thread::sleep(self.each);
        PageSource::read(&self.inner, block, first, buffer)
    }
    fn data_pages(&self) -> u64 {
        PageSource::data_pages(&self.inner)
    }
}

struct Copy {
    machine: Machine,
    /// Goes on meanwhile.
    _original: Process,
    process: Process,
    source: Arc<Slow>,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some(handle) = self.process.identity().open() {
            let _ = qemu::identity::kill(&handle);
        }
    }
}

/// A guest with 32 MiB of noise, captured, and a process for a copy of it.
async fn copy(each: Duration, backing: Backing) -> Copy {
    let mut machine = Machine::new(WRITING).await;
    machine.fill_memory();
    let original = machine.launch().await;
    machine.counts_beyond(20).await;
    snapshot(&machine, &original, 1).await;
    let source = Arc::new(Slow {
        inner: MemoryImage::open(&machine.path("memory-1"), &no_parents).unwrap(),
        each,
        failing: AtomicBool::new(false),
    });
    let process = copy_of(&machine, "copy", backing).await;
    Copy {
        machine,
        _original: original,
        process,
        source,
    }
}

/// A process that waits for what was captured.
async fn copy_of(machine: &Machine, name: &str, backing: Backing) -> Process {
    let one = copy_on(machine, "one", 1, name).await;
    let two = copy_on(machine, "two", 1, name).await;
    let mut spec = machine.clone_with(name, one, two);
    spec.test_arguments = Vec::new();
    spec.memory.backing = backing;
    spec.memory.prealloc = false;
    Process::launch(&machine.installation, &spec).await.unwrap()
}

impl Copy {
    async fn start(&self, backing: Backing) -> PageServer {
        let source = self.source.clone();
        PageServer::start(&self.process, source, Asked::default(), backing, PATIENCE)
            .await
            .unwrap()
    }

    /// Memory and disks are of one instant, and the guest goes on from there.
    async fn is_whole(&self) {
        let a = memory_at(&self.process, 0x20000).await;
        let frozen = |disk| layer("x", Format::Raw, &self.machine.path(disk));
        let one = number_on_disk(&self.machine, &frozen("one")).await;
        let two = number_on_disk(&self.machine, &frozen("two")).await;
        assert!(two <= one && one <= a, "{a} {one} {two}");
        let serial = self.machine.path("copy.serial");
        counts_beyond(&serial, a.max(one)).await;
        assert_eq!(self.process.status().await.unwrap(), RunState::Running);
        // Noise came as it was.
        let noise = std::fs::read(self.machine.path("filling")).unwrap();
        for at in (0..noise.len()).step_by(1 << 20) {
            let found = memory_at(&self.process, (16 << 20) + at as u64).await;
            assert_eq!(found, number(&noise[at..]), "{at}");
        }
    }
}

async fn runs_before_its_memory_is_there(backing: Backing) {
    let copy = copy(Duration::from_millis(2), backing).await;
    let began = Instant::now();
    let server = copy.start(backing).await;
    assert_eq!(copy.process.status().await.unwrap(), RunState::Paused);
    copy.process.cont().await.unwrap();
    let running = began.elapsed();
    copy.machine.counts_beyond(20).await;
    let progress = server.progress();
    assert!(progress.sent < progress.total, "{progress:?}");
    let residency = server.resident().await.unwrap();
    println!("running after {running:?}, {residency:?}");
    assert!(residency.sent >= 32 << 20);
    copy.is_whole().await;
    // It can be captured in the background again.
    let receiver = copy.machine.receiver("again");
    let captured = qemu::live::capture(&copy.process, &[], receiver, PATIENCE).await;
    println!("captured again: pause {:?}", captured.unwrap().pause);
}

#[tokio::test]
async fn a_guest_runs_before_its_memory_is_there() {
    runs_before_its_memory_is_there(Backing::Transparent).await;
}

#[tokio::test]
async fn what_a_guest_had_to_wait_for_is_sent_first_the_next_time() {
    let copy = copy(Duration::ZERO, Backing::Transparent).await;
    let asked = Asked::default();
    let residency = async |process: &Process| -> Residency {
        let (source, asked) = (copy.source.clone(), asked.clone());
        let server =
            PageServer::start(process, source, asked, Backing::Transparent, PATIENCE).await;
        process.cont().await.unwrap();
        server.unwrap().resident().await.unwrap()
    };
    let first = residency(&copy.process).await;
    copy.process.kill().await.unwrap();
    let again = copy_of(&copy.machine, "again", Backing::Transparent).await;
    let next = residency(&again).await;
    again.kill().await.unwrap();
    println!("{first:?}, then {next:?}");
    assert!(next.requests < first.requests, "{first:?}, then {next:?}");
}

#[tokio::test]
async fn a_broken_connection_is_made_again_as_often_as_needed() {
    let copy = copy(Duration::from_millis(4), Backing::Transparent).await;
    let mut server = copy.start(Backing::Transparent).await;
    copy.process.cont().await.unwrap();
    let mut breaks = 0;
    for round in 1..=6u64 {
        let residency = tokio::time::timeout(Duration::from_millis(37 * round), server.resident());
        if residency.await.is_ok() {
            break;
        }
        drop(server);
        breaks += 1;
        // QEMU may be waiting for that memory itself, and then answers nothing asked in its turn.
        let source = copy.source.clone();
        server = PageServer::recover(&copy.process, source, Backing::Transparent, PATIENCE)
            .await
            .unwrap();
    }
    let residency = server.resident().await.unwrap();
    println!("{breaks} breaks, {residency:?}");
    assert!(breaks > 2);
    copy.is_whole().await;
}

#[tokio::test]
async fn pages_that_cannot_be_read_are_tried_again() {
    let copy = copy(Duration::from_millis(2), Backing::Transparent).await;
    let server = copy.start(Backing::Transparent).await;
    copy.process.cont().await.unwrap();
    copy.source.failing.store(true, Ordering::Relaxed);
    let mut trouble = server.trouble();
    let told = trouble.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(told.as_deref(), Some("the disk is on fire"));
    copy.source.failing.store(false, Ordering::Relaxed);
    trouble.wait_for(Option::is_none).await.unwrap();
    server.resident().await.unwrap();
    copy.is_whole().await;
}

#[tokio::test]
async fn a_state_of_another_machine_is_refused_in_qemus_words() {
    let mut copy = copy(Duration::ZERO, Backing::Transparent).await;
    copy.process.kill().await.unwrap();
    let mut spec = copy.machine.spec.clone();
    spec.run_dir = copy.machine.path("other");
    spec.start = Start::Incoming;
    spec.ide.clear();
    spec.scsi.clear();
    spec.serial_ports.clear();
    spec.test_arguments.clear();
    copy.process = Process::launch(&copy.machine.installation, &spec)
        .await
        .unwrap();
    let source = copy.source.clone();
    let started = PageServer::start(
        &copy.process,
        source,
        Asked::default(),
        Backing::Transparent,
        PATIENCE,
    )
    .await;
    match started.err() {
        Some(PostcopyError::Rejected { said }) => assert!(said.contains("Unknown"), "{said}"),
        other => panic!("{other:?}"),
    }
}
