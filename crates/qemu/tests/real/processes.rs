//! Starting, steering, losing and finding processes.

use crate::machine::*;
use qemu::Process;
use qemu::process::{LOADING_SOCKET_NAMES, ProcessError, RunState};
use qemu::qmp::Qmp;
use qemu::spec::*;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn a_guest_runs_stands_still_runs_on_and_ends() {
    let machine = Machine::new(SLOW).await;
    let process = machine.launch().await;
    assert_eq!(process.status().await.unwrap(), RunState::Running);
    machine.counts_beyond(2).await;
    assert!(process.cpu_time().unwrap() > Duration::ZERO);
    assert!(process.uptime().unwrap() > Duration::ZERO);
    assert!(process.resident_bytes().unwrap() > 1 << 20);

    process.stop().await.unwrap();
    assert_eq!(process.status().await.unwrap(), RunState::Paused);
    let stood = memory_at(&process, 0x20000).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(memory_at(&process, 0x20000).await, stood);
    process.cont().await.unwrap();
    machine.counts_beyond(stood).await;

    process.reset().await.unwrap();
    eventually("the guest starts again from 1", || async {
        last_number(&machine.path("serial")).filter(|n| *n < stood)
    })
    .await;
    process.powerdown().await.unwrap();
    process
        .screendump(&machine.path("screen.ppm"))
        .await
        .unwrap();
    assert!(
        std::fs::read(machine.path("screen.ppm"))
            .unwrap()
            .starts_with(b"P6")
    );

    process.quit(PATIENCE).await.unwrap();
    assert!(!process.is_alive());
    assert!(process.status().await.is_err());
}

/// The session that a process belongs to.
fn session_of(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let session = behind_name.split_whitespace().nth(3).unwrap();
    session.parse().unwrap()
}

#[tokio::test]
async fn a_guest_outlives_its_client_and_is_found_again() {
    let machine = Machine::new(SLOW).await;
    let uuid = machine.spec.uuid;
    let run_dir = &machine.spec.run_dir;
    let absent = Process::reconnect(run_dir, uuid).await;
    assert!(matches!(absent, Err(ProcessError::NotRunning)));

    let process = machine.launch().await;
    let pid = process.pid();
    assert_eq!(
        session_of(pid),
        pid,
        "signals to our group and terminal would reach it"
    );
    drop(process);
    let seen = machine.counts_beyond(0).await;
    machine.counts_beyond(seen).await;

    let stranger = Process::reconnect(run_dir, Uuid::new_v4()).await;
    assert!(matches!(stranger, Err(ProcessError::WrongMachine { found, .. }) if found == uuid));
    let again = Process::reconnect(run_dir, uuid).await.unwrap();
    assert_eq!(again.pid(), pid);
    assert_eq!(again.status().await.unwrap(), RunState::Running);
    // The first monitor is taken now; the spare one is not.
    let third = Process::reconnect(run_dir, uuid).await.unwrap();
    assert_eq!(third.status().await.unwrap(), RunState::Running);

    // Found without the pid file as well: the kernel says who listens.
    drop((again, third));
    std::fs::remove_file(run_dir.join(qemu::identity::PID_FILE)).unwrap();
    let found = Process::reconnect(run_dir, uuid).await.unwrap();
    assert_eq!(found.pid(), pid);
    found.kill().await.unwrap();
    found.exited().await;
    let gone = Process::reconnect(run_dir, uuid).await;
    assert!(matches!(gone, Err(ProcessError::NotRunning)));
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_is_looked_for_is_not_running() {
    let machine = Machine::new(SLOW).await;
    let process = machine.launch().await;
    let pid = process.pid();
    drop(process);
    // It listens, and greets nobody.
    let signal = |name: &str| {
        let mut kill = std::process::Command::new("kill");
        let sent = kill.args([name, &pid.to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    let (run_dir, uuid) = (machine.spec.run_dir.clone(), machine.spec.uuid);
    let looked_for = tokio::spawn(async move { Process::reconnect(&run_dir, uuid).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal("-KILL");
    let found = looked_for.await.unwrap();
    assert!(matches!(found, Err(ProcessError::NotRunning)));
}

#[tokio::test]
async fn a_command_waits_for_its_last_byte_and_is_forgotten_without_it() {
    let machine = Machine::new(SLOW).await;
    let process = machine.launch().await;
    let monitor = machine.spec.run_dir.join(LOADING_SOCKET_NAMES[0]);
    let loaded = async || {
        let qmp = Qmp::connect(&monitor, PATIENCE).await.unwrap();
        qmp.load("stop", json!({})).await.unwrap()
    };
    drop(loaded().await);
    let stop = loaded().await;
    // It is read by now: what comes later on another monitor has been answered many times.
    for _ in 0..100 {
        assert_eq!(process.status().await.unwrap(), RunState::Running);
    }
    stop.fire().await.unwrap();
    assert_eq!(process.status().await.unwrap(), RunState::Paused);

    let qmp = Qmp::connect(&monitor, PATIENCE).await.unwrap();
    let unknown = qmp.load("no-such-command", json!({})).await.unwrap();
    let refused = unknown.fire().await.unwrap_err();
    assert!(refused.is_class("CommandNotFound"), "{refused}");
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_machine_is_not_started_twice_and_no_disk_is_written_by_two() {
    let machine = Machine::new(SLOW).await;
    let process = machine.launch().await;
    let second = Process::launch(&machine.installation, &machine.spec).await;
    assert!(matches!(second, Err(ProcessError::AlreadyRunning { pid }) if pid == process.pid()));

    let mut other = machine.spec.clone();
    other.uuid = Uuid::new_v4();
    other.run_dir = machine.path("other");
    let Err(ProcessError::LaunchFailed { said, .. }) =
        Process::launch(&machine.installation, &other).await
    else {
        panic!("two processes write one disk");
    };
    assert!(said.contains("lock"), "{said}");
    assert!(
        Process::reconnect(&other.run_dir, other.uuid)
            .await
            .is_err()
    );
    Process::kill_leftover(&machine.spec.run_dir).await.unwrap();
    assert!(!process.is_alive());
}

#[tokio::test]
async fn what_qemu_says_about_a_failed_start_is_in_the_error() {
    let mut machine = Machine::new(SLOW).await;
    machine.spec.cpu_model = "no-such-processor".into();
    let error = Process::launch(&machine.installation, &machine.spec).await;
    let Err(error @ ProcessError::LaunchFailed { .. }) = error else {
        panic!("started without a processor");
    };
    assert!(error.to_string().contains("no-such-processor"), "{error}");
}

#[tokio::test]
async fn every_device_of_a_full_machine_is_accepted() {
    let mut machine = Machine::new(SLOW).await;
    let spec = &mut machine.spec;
    spec.name = "comma, \"quote\" and %s".into();
    spec.vcpus = 2;
    spec.smbios = Smbios {
        manufacturer: "Maker, Ltd".into(),
        product: "P".into(),
        version: "V=1".into(),
        serial_number: "S".into(),
        base_board_serial_number: "B".into(),
        chassis_serial_number: "C".into(),
        chassis_asset_tag: "A".into(),
    };
    spec.boot_order = vec![BootClass::Network, BootClass::Cd, BootClass::Disk];
    let cd = |name: &str| Drive {
        id: id(name),
        medium: Medium::Cd(None),
    };
    for unit in 0..2 {
        spec.ide.push(IdeDrive {
            channel: 1,
            unit,
            drive: cd(&format!("cd{unit}")),
        });
    }
    for index in 1..4 {
        let lun = |lun| ScsiDrive {
            lun,
            drive: cd(&format!("cd-{index}-{lun}")),
        };
        spec.scsi.push(ScsiController {
            id: id(&format!("scsi{index}")),
            index,
            drives: vec![lun(0), lun(63)],
        });
    }
    for index in 0..12 {
        spec.nics.push(Nic {
            id: id(&format!("nic{index}")),
            index,
            mac: [0, 0x15, 0x5d, 0, 0, index],
        });
    }
    spec.serial_ports.push(SerialPort {
        index: 1,
        connection: SerialConnection::Socket(machine.dir.path().join("com2.sock")),
    });
    let process = machine.launch().await;
    machine.counts_beyond(0).await;
    let com2 = tokio::net::UnixStream::connect(machine.path("com2.sock")).await;
    assert!(com2.is_ok());
    let devices = process.block_devices().await.unwrap();
    assert_eq!(devices.len(), 3 + 2 + 6);
}

#[tokio::test]
async fn a_cd_is_changed_while_the_guest_runs() {
    let mut machine = Machine::new(SLOW).await;
    let iso = machine.path("a.iso");
    std::fs::write(&iso, vec![0; 1 << 20]).unwrap();
    machine.spec.ide.push(IdeDrive {
        channel: 1,
        unit: 0,
        drive: Drive {
            id: id("cd"),
            medium: Medium::Cd(Some(layer("cd-0", Format::Raw, &iso))),
        },
    });
    let process = machine.launch().await;
    let inside = async || {
        let devices = process.block_devices().await.unwrap();
        let cd = devices.into_iter().find(|d| d.drive == id("cd")).unwrap();
        cd.active()
            .map(|n| (n.node.clone(), n.path.clone(), n.read_only))
    };
    assert_eq!(inside().await, Some(("cd-0".into(), iso.clone(), true)));
    process.eject(&id("cd")).await.unwrap();
    assert_eq!(inside().await, None);
    process.eject(&id("cd")).await.unwrap();
    let medium = layer("cd-1", Format::Raw, &iso);
    process.insert(&id("cd"), &medium).await.unwrap();
    assert_eq!(inside().await, Some(("cd-1".into(), iso.clone(), true)));
    let missing = layer("cd-2", Format::Raw, &machine.path("missing.iso"));
    assert!(process.insert(&id("cd"), &missing).await.is_err());
    assert_eq!(inside().await, Some(("cd-1".into(), iso, true)));
}

#[tokio::test]
async fn a_full_disk_stops_the_guest_and_space_lets_it_run_on() {
    let Some(small) = SmallDisk::mount(8) else {
        return;
    };
    let mut machine = Machine::new(WRITING).await;
    // A sparse disk on a file system that something else fills.
    let disk = small.0.path().join("disk");
    std::fs::File::create(&disk)
        .unwrap()
        .set_len(16 << 20)
        .unwrap();
    let filling = small.0.path().join("filling");
    let mut bytes = 8 << 20;
    while std::fs::write(&filling, vec![1; bytes]).is_err() {
        bytes -= 4096;
    }
    machine.spec.ide[1].drive.medium = Medium::Disk(Chain {
        layers: vec![layer("one-0", Format::Raw, &disk)],
    });
    let process = machine.launch().await;
    eventually("the guest stands still", || async {
        (process.status().await.unwrap() == RunState::IoError).then_some(())
    })
    .await;
    std::fs::remove_file(filling).unwrap();
    process.cont().await.unwrap();
    machine.counts_beyond(1).await;
    assert_eq!(process.status().await.unwrap(), RunState::Running);
}
