//! How long restores take, on demand and whole: figures to read, not a judgement. Run it alone, on
//! a quiet host: `cargo test -p qemu --test real restore_times -- --ignored --nocapture`, with the
//! sizes in MiB in `ROOTVIRT_TEST_SIZES`. Half of the guest's memory is noise.

use crate::capture::{copy_on, snapshot};
use crate::machine::*;
use qemu::Process;
use qemu::live::capture;
use qemu::memory_backing::{Policy, PoolLimit, prepare};
use qemu::memory_image::{MemoryImage, no_parents};
use qemu::postcopy::{Asked, PageServer};
use qemu::spec::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Ending<'a>(&'a Process);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if let Some(handle) = self.0.identity().open() {
            let _ = qemu::identity::kill(&handle);
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

async fn restored(machine: &Machine, name: &str, backing: Backing, on_demand: bool) {
    let mib = machine.spec.memory.mib;
    let one = copy_on(machine, "one", 1, name).await;
    let two = copy_on(machine, "two", 1, name).await;
    let mut copy = machine.clone_with(name, one, two);
    copy.test_arguments = Vec::new();
    copy.memory.backing = backing;
    copy.memory.prealloc = false;
    let serial = machine.path(&format!("{name}.serial"));
    let began = Instant::now();
    let pool = (backing == Backing::Hugetlb).then(|| prepare(mib, Policy::new(PoolLimit::Auto)));
    let pooled = began.elapsed();
    if let Some(pool) = pool.as_ref().filter(|p| p.decision.backing != backing) {
        println!("{name}: {}", pool.decision.reason);
        return;
    }
    let path = machine.path("memory-1");
    let opening = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let image = MemoryImage::open(&path, &no_parents).unwrap();
        (image, began.elapsed())
    });
    let process = Process::launch(&machine.installation, &copy).await.unwrap();
    let _end = Ending(&process);
    let launched = began.elapsed();
    let (image, opened) = opening.await.unwrap();
    let image = Arc::new(image);
    let mut server = None;
    if on_demand {
        let started = PageServer::start(&process, image, Asked::default(), backing, PATIENCE).await;
        server = Some(started.unwrap());
    } else {
        process.load_image(&image, PATIENCE).await.unwrap();
    }
    let loaded = began.elapsed();
    process.cont().await.unwrap();
    let running = began.elapsed();
    while std::fs::metadata(&serial).map_or(0, |m| m.len()) == 0 {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    let first = began.elapsed();
    let residency = match &server {
        Some(server) => Some(server.resident().await.unwrap()),
        None => None,
    };
    let resident = began.elapsed();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut pauses = Vec::new();
    for round in 1..=2 {
        let again = machine.receiver(&format!("{name}-again-{round}"));
        let again = capture(&process, &[], again, PATIENCE).await.unwrap();
        pauses.push(ms(again.pause.unwrap()).round());
        std::fs::remove_file(machine.path(&format!("{name}-again-{round}"))).unwrap();
    }
    println!(
        "{mib} MiB {name}: pool {:.0}, image open {:.0}, launched {:.0}, loaded {:.0}, running {:.0}, \
         first byte {:.0}, resident {:.0} ms; {} requests, waited {:.0} ms; next pauses {pauses:?}",
        ms(pooled),
        ms(opened),
        ms(launched),
        ms(loaded),
        ms(running),
        ms(first),
        ms(resident),
        residency.map_or(0, |r| r.requests),
        residency.map_or(0.0, |r| ms(r.waited)),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and a quiet host"]
async fn restore_times() {
    let sizes = std::env::var("ROOTVIRT_TEST_SIZES").unwrap_or("256".into());
    for mib in sizes.split(' ').map(|mib| mib.parse::<u64>().unwrap()) {
        let mut machine = Machine::new(WRITING).await;
        machine.spec.memory.mib = mib;
        machine.fill_memory_with(mib / 2);
        let process = machine.launch().await;
        machine.counts_beyond(20).await;
        snapshot(&machine, &process, 1).await;
        process.kill().await.unwrap();
        for (name, backing, on_demand) in [
            ("demand-1", Backing::Transparent, true),
            ("demand-2", Backing::Transparent, true),
            ("huge-1", Backing::Hugetlb, true),
            ("huge-2", Backing::Hugetlb, true),
            ("whole-1", Backing::Transparent, false),
            ("whole-2", Backing::Transparent, false),
        ] {
            restored(&machine, name, backing, on_demand).await;
        }
    }
}
