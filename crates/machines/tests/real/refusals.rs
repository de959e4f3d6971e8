//! Wrong input: a cause of its own for each, and nothing changed.

use crate::site::*;
use machines::Error;
use machines::model::{DeviceKind, Machine, State};
use machines::request::{
    GlobalChange, NewDevice, ResourceChange, SettingsChange, StateRequest as Ask,
};
use machines::{DeviceId, JobId, MachineId, Machines, SnapshotId};
use std::path::{Path, PathBuf};

macro_rules! refused {
    ($result:expr, $pattern:pat) => {{
        let result = $result;
        assert!(matches!(result, Err($pattern)), "{result:?}");
        let cause = result.err().unwrap();
        for text in [
            cause.what(),
            cause.why(),
            cause.remedy(),
            cause.code().to_owned(),
        ] {
            assert!(!text.is_empty(), "{cause:?}");
        }
    }};
}

async fn add_one(machines: &Machines, id: MachineId, new: NewDevice) -> Result<(), Error> {
    machines
        .add_devices(&actor(), id, vec![new])
        .await
        .map(drop)
}

#[tokio::test]
async fn what_is_not_there() {
    let site = Site::new();
    let machines = site.open().await;
    let (id, other) = (MachineId::new(), define(&machines, "other").await);
    refused!(
        machines.create_snapshot(&actor(), id).await,
        Error::NoSuchMachine(_)
    );
    refused!(
        machines.request_state(&actor(), id, Ask::Run).await,
        Error::NoSuchMachine(_)
    );
    refused!(
        machines.remove_snapshot(&actor(), SnapshotId::new()).await,
        Error::NoSuchSnapshot(_)
    );
    refused!(
        machines.cancel(&actor(), JobId::new()).await,
        Error::NoSuchJob(_)
    );
    refused!(machines.wait(JobId::new()).await, Error::NoSuchJob(_));
    let gone = vec![DeviceId("nothing".into())];
    refused!(
        machines.remove_devices(&actor(), other, gone).await,
        Error::NoSuchDevice(_)
    );
    let mine = define(&machines, "mine").await;
    let taken = snapshot(&machines, mine).await;
    refused!(
        machines.apply_snapshot(&actor(), other, taken).await,
        Error::ForeignSnapshot { .. }
    );
    refused!(
        machines.request_state(&actor(), mine, Ask::Save).await,
        Error::WrongState {
            state: State::Off,
            ..
        }
    );
    refused!(
        machines.request_state(&actor(), mine, Ask::TurnOff).await,
        Error::AlreadyInState { state: State::Off }
    );
    let log = machines.audit_log(100).await.unwrap();
    assert!(log.iter().any(|l| l.verb == "apply_snapshot"
        && l.result == "ForeignSnapshot"
        && l.user == "tester"
        && l.peer == "local"));
    sound(&machines).await;
}

#[tokio::test]
async fn values_outside_their_limits() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "limits").await;
    let resources = |change: ResourceChange| {
        let machines = machines.clone();
        async move { machines.modify_resources(&actor(), id, vec![change]).await }
    };
    for mib in [0, 6, 65, u64::MAX] {
        refused!(resources(memory(mib)).await, Error::InvalidMemory { .. });
    }
    for count in [0, 65, u64::MAX] {
        refused!(
            resources(processors(count)).await,
            Error::InvalidProcessorCount { .. }
        );
    }
    refused!(
        resources(ResourceChange::Memory {
            quantity_mib: None,
            reservation_mib: None,
            limit_mib: None,
            weight: None,
            dynamic_memory: Some(true),
            target_buffer: None,
        })
        .await,
        Error::DynamicMemory
    );
    let twice = vec![memory(64), memory(128)];
    refused!(
        machines.modify_resources(&actor(), id, twice).await,
        Error::ChangedTwice(_)
    );
    // All or nothing.
    let mixed = vec![memory(64), processors(0)];
    assert!(
        machines
            .modify_resources(&actor(), id, mixed)
            .await
            .is_err()
    );
    assert_eq!(
        machines.machine(id).unwrap().settings.memory.quantity_mib,
        512
    );
    for name in ["", "  ", "a\nb", &"x".repeat(101)] {
        let change = SettingsChange {
            name: Some(name.into()),
            ..Default::default()
        };
        refused!(
            machines.modify_settings(&actor(), id, change).await,
            Error::InvalidName { .. }
        );
    }
    let change = SettingsChange {
        boot_order: Some([0, 0, 1, 2]),
        ..Default::default()
    };
    refused!(
        machines.modify_settings(&actor(), id, change).await,
        Error::InvalidBootOrder
    );
    let change = GlobalChange {
        external_data_root: Some("/tmp".into()),
        ..Default::default()
    };
    refused!(
        machines.modify_global(&actor(), id, change).await,
        Error::NotChangeable { .. }
    );
    let change = GlobalChange {
        snapshot_data_root: Some("/nowhere/at/all".into()),
        ..Default::default()
    };
    refused!(
        machines.modify_global(&actor(), id, change).await,
        Error::NotADirectory(_)
    );
    sound(&machines).await;
}

#[tokio::test]
async fn devices_that_do_not_fit() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "devices").await;
    let ide = DeviceId(IDE[0].into());
    let file = site.disk("a.img", b"", 1);
    refused!(
        add_one(&machines, id, device(DeviceKind::Keyboard)).await,
        Error::NotAddable(_)
    );
    refused!(
        add_one(&machines, id, device(DeviceKind::DiskDrive)).await,
        Error::NoParent { .. }
    );
    let wrong = drive(
        first(&machines.machine(id).unwrap(), DeviceKind::Keyboard),
        "0",
    );
    refused!(
        add_one(&machines, id, wrong).await,
        Error::WrongParent { .. }
    );
    let wrong = image(ide.clone(), &file);
    refused!(
        add_one(&machines, id, wrong).await,
        Error::WrongParent { .. }
    );
    for slot in ["2", "-1", "x", "99999999999999"] {
        let wrong = drive(ide.clone(), slot);
        refused!(
            add_one(&machines, id, wrong).await,
            Error::NoSuchSlot { .. }
        );
    }
    let disk = add(&machines, id, vec![drive(ide.clone(), "1")])
        .await
        .remove(0);
    assert_eq!(disk.0, format!("{}\\1\\D", IDE[0]));
    refused!(
        add_one(&machines, id, drive(ide.clone(), "1")).await,
        Error::SlotTaken { .. }
    );
    for (path, wanted) in [
        ("relative.img", "PathNotAbsolute"),
        ("/nowhere/disk.img", "FileNotFound"),
        ("/tmp", "NotAFile"),
        ("", "OneFile"),
    ] {
        let result = add_one(&machines, id, image(disk.clone(), Path::new(path))).await;
        assert_eq!(result.err().unwrap().code(), wanted, "{path}");
    }
    let broken = site.disk("broken.qcow2", b"not an image", 1);
    let wrong = image(disk.clone(), &broken);
    refused!(
        add_one(&machines, id, wrong).await,
        Error::UnreadableImage { .. }
    );
    let medium = add(&machines, id, vec![image(disk.clone(), &file)])
        .await
        .remove(0);
    assert_eq!(medium.0, format!("{}\\1\\L", IDE[0]));
    refused!(
        machines
            .remove_devices(&actor(), id, vec![disk.clone()])
            .await,
        Error::HasChildren { .. }
    );
    refused!(
        machines
            .remove_devices(&actor(), id, vec![ide.clone()])
            .await,
        Error::NotRemovable(_)
    );
    // In use by another machine, by whatever name.
    let other = define(&machines, "other").await;
    let there = add(&machines, other, vec![drive(ide.clone(), "0")])
        .await
        .remove(0);
    let link = site.path("link.img");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    match add_one(&machines, other, image(there.clone(), &link)).await {
        Err(Error::DiskInUse { machine, name, .. }) => {
            assert_eq!((machine, name.as_str()), (id, "devices"));
        }
        unexpected => panic!("{unexpected:?}"),
    }
    machines
        .remove_devices(&actor(), id, vec![medium, disk])
        .await
        .unwrap();
    add(&machines, other, vec![image(there, &file)]).await;
    let mac = NewDevice {
        address: Some("not a mac".into()),
        ..device(DeviceKind::EthernetPort)
    };
    refused!(add_one(&machines, id, mac).await, Error::InvalidMac { .. });
    for _ in 0..4 {
        add(&machines, id, vec![controller()]).await;
    }
    refused!(
        add_one(&machines, id, controller()).await,
        Error::TooManyDevices { .. }
    );
    sound(&machines).await;
}

#[tokio::test]
async fn devices_are_listed_as_on_hyper_v() {
    use DeviceKind::*;
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "order").await;
    add(&machines, id, vec![controller(), device(EthernetPort)]).await;
    let kinds: Vec<_> = machines
        .machine(id)
        .unwrap()
        .settings
        .devices
        .iter()
        .map(|d| d.kind)
        .collect();
    assert_eq!(
        kinds,
        [
            Keyboard,
            Ps2Mouse,
            S3Display,
            DisketteDrive,
            DisketteController,
            SerialController,
            SerialPort,
            SerialPort,
            DiskDrive,
            HardDiskImage,
            DiskDrive,
            HardDiskImage,
            IdeController,
            IdeController,
            SyntheticMouse,
            SyntheticDisplay,
            DiskDrive,
            HardDiskImage,
            ScsiController,
            ScsiController,
            EthernetPort
        ]
    );
    machines.close().await;
    drop(machines);
    let machines = site.open().await;
    let again: Vec<_> = machines
        .machine(id)
        .unwrap()
        .settings
        .devices
        .iter()
        .map(|d| d.kind)
        .collect();
    assert_eq!(again, kinds);
}

#[tokio::test]
async fn what_a_running_machine_does_not_allow() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "busy").await;
    bring(&machines, id, Ask::Run).await;
    let ide = DeviceId(IDE[1].into());
    refused!(
        add_one(&machines, id, drive(ide, "0")).await,
        Error::NoHotPlug { .. }
    );
    refused!(
        add_one(&machines, id, controller()).await,
        Error::NoHotPlug { .. }
    );
    refused!(
        machines
            .modify_resources(&actor(), id, vec![memory(128)])
            .await,
        Error::WrongState {
            state: State::Running,
            ..
        }
    );
    refused!(
        machines.destroy(&actor(), id).await,
        Error::WrongState { .. }
    );
    let rename = SettingsChange {
        name: Some("renamed".into()),
        notes: Some("while it runs".into()),
        ..Default::default()
    };
    machines
        .modify_settings(&actor(), id, rename)
        .await
        .unwrap();
    assert_eq!(machines.by_name("RENAMED").len(), 1);
    assert!(machines.by_name("busy").is_empty());
    let change = SettingsChange {
        bios_num_lock: Some(true),
        ..Default::default()
    };
    refused!(
        machines.modify_settings(&actor(), id, change).await,
        Error::WrongState { .. }
    );
    sound(&machines).await;
}

#[tokio::test]
async fn two_disks_that_stand_on_one_file() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "apart").await;
    let base = site.disk("base.img", b"x", 4);
    let parent = DeviceId(IDE[0].into());
    let first = add_disk(&machines, id, parent.clone(), "0", &base).await;
    let taken = snapshot(&machines, id).await;
    let layer_of = || {
        let machine = machines.machine(id).unwrap();
        let images = of_kind(&machine, DeviceKind::HardDiskImage);
        PathBuf::from(&images[0].connection[0])
    };
    let detached = layer_of();
    machines
        .remove_devices(&actor(), id, vec![first])
        .await
        .unwrap();
    // The same layer twice in one request.
    let drives = [("1", 0), ("0", 1)].map(|(slot, n)| drive(DeviceId(IDE[n].into()), slot));
    let drives = add(&machines, id, drives.to_vec()).await;
    let both = drives.iter().map(|d| image(d.clone(), &detached)).collect();
    refused!(
        machines.add_devices(&actor(), id, both).await,
        Error::DiskInUse { .. }
    );
    // Two layers on one file, one after the other.
    add(&machines, id, vec![image(drives[0].clone(), &detached)]).await;
    let changed = machines.machine(id).unwrap();
    let ours = first_image(&changed);
    machines
        .remove_devices(&actor(), id, vec![ours])
        .await
        .unwrap();
    apply(&machines, id, taken).await;
    assert_ne!(layer_of(), detached);
    let free = add(&machines, id, vec![drive(DeviceId(IDE[1].into()), "1")]).await;
    refused!(
        add_one(&machines, id, image(free[0].clone(), &detached)).await,
        Error::DiskInUse { .. }
    );
    sound(&machines).await;
}

fn first_image(machine: &Machine) -> DeviceId {
    first(machine, DeviceKind::HardDiskImage)
}

#[tokio::test]
async fn the_hundred_and_first_snapshot() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "many").await;
    for _ in 0..100 {
        snapshot(&machines, id).await;
    }
    refused!(
        machines.create_snapshot(&actor(), id).await,
        Error::TooManySnapshots { limit: 100 }
    );
    let root = machines.machine(id).unwrap().snapshots[0].id;
    let job = machines.remove_snapshot_tree(&actor(), root).await.unwrap();
    completed(&machines, job).await;
    assert!(machines.machine(id).unwrap().snapshots.is_empty());
    sound(&machines).await;
}
