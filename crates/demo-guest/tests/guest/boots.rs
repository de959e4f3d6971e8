//! The guest boots by itself, counts, and shows a host what it needs to see.

use std::fs::{self, File};
use std::io::BufReader;
use std::time::{Duration, Instant};

use demo_guest::disk::{read_counter, read_counter_of_chain};
use demo_guest::protocol::{Ending, KeyPress};
use demo_guest::ram;
use serde_json::json;

use crate::machine::{LIMIT, Machine, blank_disk};

const MEMORY: u64 = 192 << 20;

#[test]
fn memory_and_disks_stay_in_step_through_stop_cont_and_a_move_to_a_new_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ide, scsi) = (
        folder.path().join("ide.qcow2"),
        folder.path().join("scsi.qcow2"),
    );
    blank_disk(&ide);
    blank_disk(&scsi);
    let ide_drive = format!("file={},if=ide,index=1", ide.display());
    let scsi_drive = format!("file={},if=none,id=scsi", scsi.display());
    let mut arguments = vec![
        "-m",
        "192",
        "-drive",
        &ide_drive,
        "-device",
        "virtio-scsi-pci",
    ];
    arguments.extend(["-drive", &scsi_drive, "-device", "scsi-hd,drive=scsi"]);
    let mut machine = Machine::start(folder.path(), &arguments);

    let ready = machine
        .serial
        .wait_ready(LIMIT)
        .expect("the guest gets ready");
    let buses: Vec<&str> = ready.disks.iter().map(|disk| disk.bus.as_str()).collect();
    assert_eq!(buses, ["ide", "virtio"], "{ready}");
    // The kernel names disks in the order in which it finds them, and it probes in parallel: the
    // boot disk is `sda` on one boot and `sdb` on the next.
    assert_eq!((ready.start, ready.ignored.len()), (0, 1), "{ready}");
    assert!(
        ready.disks.iter().all(|disk| disk.name != ready.ignored[0]),
        "{ready}"
    );
    let tick = machine.serial.next_tick(LIMIT).expect("a tick");
    assert!(
        tick.ram > 0 && tick.disk.is_some_and(|disk| disk > 0),
        "{tick}"
    );
    let before = machine.serial.report(LIMIT).expect("a report");
    assert!(before.is_consistent(), "{before}");

    machine.qmp("stop", &json!({}));
    for round in 0..5 {
        if round > 0 {
            machine.qmp("cont", &json!({}));
            machine.serial.next_tick(LIMIT).expect("a tick");
            machine.qmp("stop", &json!({}));
        }
        let dump = machine.dump_memory(MEMORY);
        let memory = ram::inspect(BufReader::new(File::open(dump).expect("a dump")))
            .expect("the guest's pages");
        assert_eq!((memory.boot, memory.ring), (ready.boot, ready.ring));
        assert!(memory.is_consistent() && memory.a >= before.a, "{memory:?}");
        for disk in [&ide, &scsi] {
            let disk = read_counter_of_chain(&disk.display().to_string()).expect("a counter");
            assert_eq!(disk.newest.boot, ready.boot);
            assert_eq!(
                disk.other.map(|other| other.counter + 1),
                Some(disk.newest.counter)
            );
            assert!(
                memory.agrees_with_disk(disk.newest.counter),
                "{memory:?} {disk:?}"
            );
        }
    }

    let state = folder.path().join("state");
    machine.save(&state);
    drop(machine);
    let incoming = format!("file:{}", state.display());
    arguments.extend(["-incoming", &incoming, "-S"]);
    let mut machine = Machine::start(folder.path(), &arguments);
    let deadline = Instant::now() + LIMIT;
    while machine.qmp("query-status", &json!({}))["status"] == "inmigrate" {
        assert!(Instant::now() < deadline, "the state does not load");
        std::thread::sleep(Duration::from_millis(20));
    }
    machine.qmp("cont", &json!({}));
    machine
        .serial
        .next_tick(LIMIT)
        .expect("a tick in the new process");
    let after = machine
        .serial
        .report(LIMIT)
        .expect("a report in the new process");
    assert!(
        after.is_consistent() && after.boot == before.boot && after.a > before.a,
        "{after}"
    );
}

#[test]
fn the_power_button_ends_a_round_and_the_next_boot_goes_on_from_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let (own, foreign) = (
        folder.path().join("own.raw"),
        folder.path().join("foreign.raw"),
    );
    File::create(&own)
        .and_then(|file| file.set_len(4 << 20))
        .expect("a blank disk");
    let contents: Vec<u8> = (0..4_u32 << 20)
        .map(|place| place.to_le_bytes()[1])
        .collect();
    fs::write(&foreign, &contents).expect("a disk in use");
    let own_drive = format!("file={},format=raw,if=virtio", own.display());
    let foreign_drive = format!("file={},format=raw,if=ide,index=2", foreign.display());
    let beats = folder.path().join("beats");
    let debug = format!("file,id=beats,path={}", beats.display());
    let mut arguments = vec!["-m", "128", "-smp", "2", "-drive", &own_drive];
    arguments.extend(["-drive", &foreign_drive, "-chardev", &debug]);
    arguments.extend(["-device", "isa-debugcon,iobase=0xe9,chardev=beats"]);

    let mut machine = Machine::start(folder.path(), &arguments);
    let ready = machine
        .serial
        .wait_ready(LIMIT)
        .expect("the guest gets ready");
    assert_eq!(
        (ready.cpus, ready.ignored.len(), ready.disks.len()),
        (2, 2, 1),
        "{ready}"
    );

    // SeaBIOS writes to the debug port too; what counts is the heartbeat's growth.
    machine.serial.next_tick(LIMIT).expect("a tick");
    let quiet = fs::metadata(&beats).expect("debug output").len();
    machine
        .serial
        .set_heartbeat(true, LIMIT)
        .expect("the heartbeat starts");
    let deadline = Instant::now() + LIMIT;
    while fs::metadata(&beats).expect("debug output").len() < quiet + 1000 {
        assert!(Instant::now() < deadline, "no heartbeat");
        std::thread::sleep(Duration::from_millis(20));
    }
    machine
        .serial
        .dirty(Some(4), 2, LIMIT)
        .expect("the dirtier starts");
    machine.serial.fill(4, LIMIT).expect("noise");
    assert!(
        machine.serial.fill(4000, LIMIT).is_err(),
        "more than the machine has"
    );
    let listed = machine.serial.shell("ls /dev/vda", LIMIT).expect("a shell");
    assert_eq!(listed, ["/dev/vda"]);

    machine.qmp(
        "send-key",
        &json!({ "keys": [{ "type": "qcode", "data": "a" }] }),
    );
    let key = machine
        .serial
        .wait_for("key", LIMIT, KeyPress::parse)
        .expect("the key is told");
    assert_eq!(key, KeyPress { code: 30 });

    machine.qmp("system_powerdown", &json!({}));
    machine
        .serial
        .wait_ending(Ending::PowerOff, LIMIT)
        .expect("the guest powers off");
    machine.wait_for_end();
    let counter = read_counter(&own).expect("a counter").newest;
    assert_eq!(counter.boot, ready.boot);
    assert!(
        fs::read(&foreign).expect("the disk in use") == contents,
        "a foreign disk was changed"
    );

    let mut machine = Machine::start(folder.path(), &arguments);
    let again = machine
        .serial
        .wait_ready(LIMIT)
        .expect("the guest gets ready again");
    assert_eq!(again.start, counter.counter);
    assert!(again.boot > ready.boot);
    let report = machine.serial.report(LIMIT).expect("a report");
    assert!(
        report.is_consistent() && report.a >= counter.counter,
        "{report}"
    );
    machine
        .serial
        .power_off(LIMIT)
        .expect("the guest powers off on command");
    machine.wait_for_end();
}
