//! Transparent huge pages of a real guest: snapshots split them, the healer makes them whole, so the
//! tenth snapshot finds what the first one found.

use crate::machine::*;
use qemu::Process;
use qemu::live::capture;
use qemu::memory_backing::healing::Health;

/// MiB of the process that are in huge pages.
fn huge_mib(process: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("AnonHugePages:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenth_snapshot_finds_as_many_huge_pages_as_the_first() {
    let mut machine = Machine::new(SLOW).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(1).await;
    let place = process.memory_place().await.unwrap().unwrap();
    assert_eq!(place.length, 64 << 20);
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for round in 0..10 {
        found.push(huge_mib(&process));
        let config = machine.receiver("memory");
        capture(&process, &[], config, PATIENCE).await.unwrap();
        left.push(huge_mib(&process));
        let healer = process.heal(place).unwrap();
        let health = eventually("memory is healed", || async {
            match healer.health() {
                Health::Healing { .. } => None,
                end => Some(end),
            }
        })
        .await;
        healer.stop().await;
        match &health {
            Health::Whole { healed } => assert!(round == 0 || *healed > 0, "{health:?}"),
            Health::Stopped { reason, .. }
                if reason.contains("Linux") || reason.contains("host") =>
            {
                println!("skipped: {reason}");
                return;
            }
            other => panic!("{other:?}"),
        }
        // The filling that QEMU loaded is still the guest's.
        let last = last_number(&machine.path("serial")).unwrap();
        machine.counts_beyond(last).await;
    }
    println!("MiB in huge pages before each snapshot {found:?}, after it {left:?}");
    // 32 MiB are full of noise.
    let (first, tenth) = (found[1], found[9]);
    assert!(first >= 30, "{found:?}");
    assert!(tenth * 10 >= first * 9, "{found:?}");
    assert!(
        left.iter().all(|l| *l * 2 < first),
        "nothing was split: {left:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_healed_is_what_it_was() {
    let mut machine = Machine::new(SLOW).await;
    machine.fill_memory();
    let process = machine.launch().await;
    machine.counts_beyond(1).await;
    capture(&process, &[], machine.receiver("memory"), PATIENCE)
        .await
        .unwrap();
    process.stop().await.unwrap();
    let was = memory(&machine, &process).await;
    let place = process.memory_place().await.unwrap().unwrap();
    let healer = process.heal(place).unwrap();
    eventually("memory is healed", || async {
        (!matches!(healer.health(), Health::Healing { .. })).then_some(())
    })
    .await;
    assert!(was == memory(&machine, &process).await);
    process.cont().await.unwrap();
    let last = last_number(&machine.path("serial")).unwrap();
    machine.counts_beyond(last).await;
}

/// All of the guest's memory.
async fn memory(machine: &Machine, process: &Process) -> Vec<u8> {
    let copy = machine.path("copy");
    let arguments = serde_json::json!({"val": 0, "size": 64 << 20, "filename": copy});
    process.qmp().execute("pmemsave", arguments).await.unwrap();
    let bytes = std::fs::read(&copy).unwrap();
    std::fs::remove_file(copy).unwrap();
    assert!(bytes.iter().filter(|byte| **byte != 0).count() > 16 << 20);
    bytes
}
