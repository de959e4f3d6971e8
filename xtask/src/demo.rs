//! `cargo xtask demo`: the main job on a real guest, told step by step.
//!
//! A guest counts in RAM and on two disks in lockstep. A snapshot of memory, devices and disks is
//! taken while it runs, over CIM-XML like any other client would; the guest goes on; the snapshot
//! is applied; and both counters are back at the same instant. Every step goes through the program
//! `rootvirt`; what the guest says comes from its serial port, and what the frozen disks hold is
//! read from their files.

mod service;

use std::path::Path;
use std::time::{Duration, Instant};

use demo_guest::protocol::{Report, Tick};
use demo_guest::serial::SerialClient;

use crate::setup::{self, Need};
use crate::{Failure, Outcome, WrongUsage, guest, process};
use service::Service;

pub const USAGE: &str = "demo\n      \
    all set-up, then the main job on a real guest, told step by step";

const VM: &str = "web01";
const SNAPSHOT: &str = "before the change";
const MEMORY: &str = "512M";

/// How long the guest may take to boot under emulation on a slow machine.
const BOOT: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(20);

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(WrongUsage(format!("demo takes no {argument}")).into());
    }
    say("Set-up: QEMU, the guest's boot disk, the program");
    setup::ensure(&[Need::Qemu])?;
    let boot_image = guest::boot_image()?;
    process::shown(process::cargo().args(["build", "--locked", "--package", "rootvirt"]))?;
    let program = process::target_folder()?.join("debug/rootvirt");

    let begun = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("rootvirt-demo-")
        .tempdir()?;
    let service = Service::start(&program, folder.path())?;
    println!(
        "  {} answers CIM-XML at {}",
        service.version()?,
        service.url()
    );
    let outcome = tell(&service, &boot_image, folder.path());
    if outcome.is_err() {
        eprintln!("{}", service.log_tail());
    }
    say("Cleaning up");
    service.stop_with_guests()?;
    outcome?;
    println!(
        "  done in {} s, nothing is left behind",
        begun.elapsed().as_secs()
    );
    Ok(())
}

fn tell(service: &Service, boot_image: &Path, folder: &Path) -> Outcome {
    say("A machine with a boot disk and two data disks (one IDE, one SCSI), and its guest");
    let mut serial = boot(service, boot_image, folder)?;
    for _ in 0..2 {
        show("guest", serial.next_tick(ANSWER)?);
    }

    say("A live snapshot: Msvm_VirtualSystemManagementService.CreateVirtualSystemSnapshot");
    let before = serial.report(ANSWER)?;
    let called = Instant::now();
    service.client(&["snapshot", "create", VM, "--name", SNAPSHOT])?;
    let took = called.elapsed();
    let after = serial.report(ANSWER)?;
    timeline(service, took)?;
    println!(
        "  the guest ran on: round {} before, {} after",
        before.a, after.a
    );
    let frozen = frozen_counters(service)?;
    for (file, counter) in &frozen {
        println!("  frozen layer {file}: round {counter}");
    }

    say("The guest goes on");
    for _ in 0..3 {
        show("guest", serial.next_tick(ANSWER)?);
    }
    let gone_on = serial.report(ANSWER)?;
    println!("  it is at round {} now", gone_on.a);

    say("Back: turn off, ApplyVirtualSystemSnapshotEx, start");
    service.client(&["vm", "stop", VM])?;
    service.client(&["snapshot", "apply", VM, SNAPSHOT])?;
    let state = service.machine_state(VM)?;
    println!("  after the apply the machine is {state}");
    let started = Instant::now();
    service.client(&["vm", "start", VM])?;
    println!("  running again after {} ms", started.elapsed().as_millis());
    let mut serial = SerialClient::connect(&folder.join("com1"), ANSWER)?;
    let back = serial.report(ANSWER)?;
    show("guest", serial.next_tick(ANSWER)?);
    prove(&before, &after, &gone_on, &back, &frozen)?;

    say("The snapshot and the machine go");
    service.client(&["snapshot", "remove", VM, SNAPSHOT])?;
    service.client(&["vm", "stop", VM])?;
    service.client(&["vm", "delete", VM])?;
    Ok(())
}

fn boot(service: &Service, image: &Path, folder: &Path) -> Result<SerialClient, Failure> {
    let boot_disk = folder.join("boot.raw");
    std::fs::copy(image, &boot_disk)?;
    let disks = [folder.join("data1.raw"), folder.join("data2.raw")];
    for disk in &disks {
        std::fs::File::create(disk)?.set_len(64 << 20)?;
    }
    let socket = folder.join("com1");
    let texts = [&boot_disk, &disks[0], &disks[1], &socket].map(|path| path.display().to_string());
    let [boot_disk, ide, scsi, com1] = texts;
    let scsi = format!("scsi:{scsi}");
    service.client(&[
        "vm", "create", VM, "--memory", MEMORY, "--disk", &boot_disk, "--disk", &ide, "--disk",
        &scsi, "--serial", &com1,
    ])?;
    service.client(&["vm", "start", VM])?;
    let begun = Instant::now();
    let mut serial = SerialClient::connect(&socket, ANSWER)?;
    let ready = serial.wait_ready(BOOT)?;
    println!(
        "  booted in {:.1} s: {} MiB, {} data disks",
        begun.elapsed().as_secs_f64(),
        ready.memory,
        ready.disks.len()
    );
    if ready.disks.len() != disks.len() {
        return Err(format!(
            "the guest sees {} data disks of {}",
            ready.disks.len(),
            disks.len()
        )
        .into());
    }
    Ok(serial)
}

fn timeline(service: &Service, took: Duration) -> Outcome {
    let snapshot = service.snapshot(VM)?;
    let number = |key: &str| snapshot.get(key).and_then(serde_json::Value::as_f64);
    let (Some(pause), Some(durable), Some(bytes)) = (
        number("pause_ms"),
        number("durable_ms"),
        number("stored_bytes"),
    ) else {
        return Err(format!("the snapshot does not tell its times: {snapshot}").into());
    };
    println!("  guest paused      {pause:.1} ms");
    println!("  durable after     {durable:.0} ms");
    println!("  client done after {} ms", took.as_millis());
    println!(
        "  memory image      {:.1} MiB of {MEMORY}",
        bytes / f64::from(1 << 20)
    );
    Ok(())
}

/// The counters of the layers that the snapshot froze, read from their files.
fn frozen_counters(service: &Service) -> Result<Vec<(String, u64)>, Failure> {
    let mut counters = Vec::new();
    for file in service.disk_files(VM, SNAPSHOT)? {
        match demo_guest::disk::read_counter_of_chain(&file) {
            Ok(counter) => {
                let name = Path::new(&file).file_name().unwrap_or_default();
                let name = name.to_string_lossy().into_owned();
                counters.push((name, counter.newest.counter));
            }
            Err(demo_guest::disk::ReadCounterError::NoCounter { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if counters.len() != 2 {
        return Err(format!("{} frozen layers hold a counter, not 2", counters.len()).into());
    }
    Ok(counters)
}

/// RAM and disks must have gone back to one instant between `before` and `after`.
fn prove(
    before: &Report,
    after: &Report,
    gone_on: &Report,
    back: &Report,
    frozen: &[(String, u64)],
) -> Outcome {
    let instant = frozen
        .iter()
        .map(|(_, counter)| *counter)
        .min()
        .unwrap_or(0);
    println!("  RAM counter: {} -> {}", gone_on.a, back.a);
    for disk in &back.disks {
        println!(
            "  disk {} ({}): {} -> {}",
            disk.name, disk.bus, gone_on.a, disk.counter
        );
    }
    let checks = [
        (
            "memory, ring and disks are of one instant",
            back.is_consistent(),
        ),
        (
            "it is the boot that was snapshotted, not a new one",
            back.boot == before.boot,
        ),
        (
            "the frozen disks are of one instant",
            frozen.iter().all(|(_, c)| *c <= instant + 1),
        ),
        (
            "that instant lies within the call",
            before.a <= instant + 1 && instant <= after.a,
        ),
        (
            "both counters went back",
            back.a < gone_on.a && back.a >= instant,
        ),
    ];
    for (what, holds) in checks {
        println!("  {} {what}", if holds { "yes:" } else { "NO: " });
    }
    match checks.iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(format!("not shown: {what}").into()),
    }
}

fn say(step: &str) {
    println!("\n== {step}");
}

fn show(who: &str, tick: Tick) {
    let disk = tick.disk.map_or("-".to_owned(), |disk| disk.to_string());
    println!(
        "  {who}: RAM counter {:>6}, disk counter {disk:>6}",
        tick.ram
    );
}
