//! Guests' memory on the host's huge pages: had when they can be had, given back when nobody uses
//! them any more, and never a reason not to start.
//!
//! The pool is the host's own, and other programs may use it meanwhile: what is looked at is what
//! stays in it, and what the machine's process has of it.

use crate::crashes::{HUGE_PAGES, die_with};
use crate::site::*;
use machines::Machines;
use machines::request::StateRequest as Ask;
use qemu::memory_backing::healing::Health;
use qemu::memory_backing::{Pool, PoolLimit};
use std::sync::Arc;

/// What the pool keeps; nothing where it cannot be grown.
fn kept() -> Option<u64> {
    // Waits for whoever is growing it.
    qemu::memory_backing::settle();
    let pool = Pool::read().ok()?;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: growing the host's pool of huge pages needs root");
        return None;
    }
    Some(pool.kept())
}

async fn open(site: &Site, limit: PoolLimit) -> Arc<Machines> {
    let mut config = site.config();
    config.huge_pages_limit = limit;
    Machines::open(config).await.unwrap()
}

async fn keeps(pages: u64) {
    eventually("the pool keeps what it kept", || async {
        (Pool::read().unwrap().kept() == pages).then_some(())
    })
    .await;
}

/// MiB of huge pages that a process has.
fn huge_mib(process: &qemu::Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("Shared_Hugetlb:"));
    let private = text
        .lines()
        .find_map(|l| l.strip_prefix("Private_Hugetlb:"));
    [line, private]
        .iter()
        .flatten()
        .filter_map(|l| l.split_whitespace().next()?.parse::<u64>().ok())
        .sum::<u64>()
        / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_on_huge_pages_and_goes_back_with_the_process() {
    let Some(before) = kept() else { return };
    let site = Site::new();
    let machines = open(&site, PoolLimit::Auto).await;
    let id = site.counter(&machines, "counter").await;
    bring(&machines, id, Ask::Run).await;
    let shown = machines.machine(id).unwrap().process.clone().unwrap();
    println!("{:?}", shown.memory_backing);
    if shown.memory_backing.1.contains("of memory available") {
        println!("skipped: the host is short of memory");
        return;
    }
    assert_eq!(shown.memory_backing.0, "hugetlb", "{shown:?}");
    site.counts_on("counter").await;
    let process = site.process(id).await;
    assert_eq!(huge_mib(&process), 64);
    // The pool does not keep them, so nobody has to take them back.
    keeps(before).await;
    machines.close().await;
    drop(machines);
    process.kill().await.unwrap();
    keeps(before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_service_that_died_while_starting_a_machine_go_back() {
    let Some(before) = kept() else { return };
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "counter").await;
    machines.close().await;
    drop(machines);
    let task = format!("start {id}");
    for point in ["start.memory", "start.launched"] {
        assert!(die_with(&site, &task, point, &[(HUGE_PAGES, "auto")]).await);
        let machines = site.open().await;
        keeps(before).await;
        sound(&machines).await;
        machines.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_starts_without_huge_pages_and_says_why() {
    let site = Site::new();
    let machines = open(&site, PoolLimit::Mib(2)).await;
    let id = site.counter(&machines, "counter").await;
    bring(&machines, id, Ask::Run).await;
    let shown = machines.machine(id).unwrap().process.clone().unwrap();
    if shown.memory_backing.0 == "hugetlb" {
        println!("skipped: the host's own pool is large enough");
        return;
    }
    assert_eq!(shown.memory_backing.0, "transparent huge pages");
    assert!(!shown.memory_backing.1.is_empty());
    site.counts_on("counter").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_healed_between_operations() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "counter").await;
    bring(&machines, id, Ask::Run).await;
    let shown = machines.machine(id).unwrap().process.clone().unwrap();
    if shown.memory_backing.0 == "hugetlb" {
        println!("skipped: the host's own pool is large enough");
        return;
    }
    assert_eq!(machines.memory_health(id), None);
    for _ in 0..2 {
        snapshot(&machines, id).await;
        let health = eventually("memory is looked at", || async {
            match machines.memory_health(id)? {
                Health::Healing { .. } => None,
                end => Some(end),
            }
        })
        .await;
        println!("{health}");
        match health {
            Health::Stopped { reason, .. } => assert!(!reason.is_empty()),
            whole => assert!(matches!(whole, Health::Whole { .. })),
        }
    }
    bring(&machines, id, Ask::TurnOff).await;
    assert_eq!(machines.memory_health(id), None);
    sound(&machines).await;
}
