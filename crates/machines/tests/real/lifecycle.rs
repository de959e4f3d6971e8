//! From definition to destruction, and across restarts of the service.

use crate::site::*;
use machines::Error;
use machines::model::{DeviceKind, State};
use machines::request::StateRequest as Ask;
use std::time::Duration;

#[tokio::test]
async fn a_machine_is_defined_started_paused_saved_and_destroyed() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "life").await;
    assert_eq!(state(&machines, id), State::Off);
    sound(&machines).await;

    bring(&machines, id, Ask::Run).await;
    assert_eq!(state(&machines, id), State::Running);
    let process = machines.machine(id).unwrap().process.clone().unwrap();
    assert_eq!(process.accelerator.0, "tcg");
    site.counts_beyond("life", 3).await;
    let again = machines.request_state(&actor(), id, Ask::Run).await;
    assert!(matches!(
        again,
        Err(Error::AlreadyInState {
            state: State::Running
        })
    ));
    sound(&machines).await;

    bring(&machines, id, Ask::Pause).await;
    assert_eq!(state(&machines, id), State::Paused);
    let refused = machines.create_snapshot(&actor(), id).await;
    assert!(matches!(
        refused,
        Err(Error::WrongState {
            state: State::Paused,
            ..
        })
    ));
    let [a, one, two, b] = site.numbers(&machines, id).await;
    assert!(
        b <= one.min(two) && one.max(two) <= a && a <= b + 1,
        "{a} {one} {two} {b}"
    );
    sound(&machines).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("life").await;

    bring(&machines, id, Ask::Save).await;
    assert_eq!(state(&machines, id), State::Saved);
    assert!(machines.machine(id).unwrap().process.is_none());
    sound(&machines).await;
    let last = last_number(&site.path("life.serial")).unwrap();
    bring(&machines, id, Ask::Run).await;
    assert_eq!(state(&machines, id), State::Running);
    site.counts_beyond("life", last).await;
    sound(&machines).await;

    bring(&machines, id, Ask::Reset).await;
    assert_eq!(state(&machines, id), State::Running);
    bring(&machines, id, Ask::Pause).await;
    bring(&machines, id, Ask::TurnOff).await;
    assert_eq!(state(&machines, id), State::Off);
    sound(&machines).await;

    let job = machines.destroy(&actor(), id).await.unwrap();
    completed(&machines, job).await;
    assert!(machines.machine(id).is_none());
    assert!(site.path("life-one.img").exists());
    assert!(!site.data().join("machines").join(id.to_string()).exists());
    assert!(machines.jobs_of(id).iter().all(|j| j.finished.is_some()));
}

#[tokio::test]
async fn guests_outlive_the_service() {
    let site = Site::new();
    let machines = site.open().await;
    let running = site.counter(&machines, "running").await;
    let paused = site.counter(&machines, "paused").await;
    let dies = site.counter(&machines, "dies").await;
    for id in [running, paused, dies] {
        bring(&machines, id, Ask::Run).await;
    }
    site.counts_beyond("paused", 1).await;
    bring(&machines, paused, Ask::Pause).await;
    let job = machines.jobs_of(paused).last().unwrap().id;
    machines.close().await;
    drop(machines);

    let count = site.counts_on("running").await;
    site.process(dies).await.kill().await.unwrap();
    let machines = site.open().await;
    assert_eq!(state(&machines, running), State::Running);
    assert_eq!(state(&machines, paused), State::Paused);
    assert_eq!(state(&machines, dies), State::Off);
    assert!(matches!(
        machines.machine(dies).unwrap().health,
        machines::model::Health::Critical(_)
    ));
    assert!(
        machines.job(job).is_some(),
        "jobs are kept across a restart"
    );
    site.counts_beyond("running", count).await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_process_that_dies_is_seen() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "dies").await;
    bring(&machines, id, Ask::Run).await;
    site.process(id).await.kill().await.unwrap();
    eventually("the machine is off", || async {
        (state(&machines, id) == State::Off).then_some(())
    })
    .await;
    let machine = machines.machine(id).unwrap();
    assert!(matches!(
        machine.health,
        machines::model::Health::Critical(_)
    ));
    bring(&machines, id, Ask::Run).await;
    let machine = machines.machine(id).unwrap();
    assert_eq!(machine.health, machines::model::Health::Ok);
}

#[tokio::test]
async fn a_guest_that_ignores_the_power_button_runs_on() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "deaf").await;
    bring(&machines, id, Ask::Run).await;
    let job = machines
        .request_state(&actor(), id, Ask::ShutDown)
        .await
        .unwrap();
    assert_eq!(state(&machines, id), State::Stopping);
    let refused = machines.request_state(&actor(), id, Ask::Pause).await;
    assert!(matches!(
        refused,
        Err(Error::WrongState {
            state: State::Stopping,
            ..
        })
    ));
    assert_eq!(failed(&machines, job).await.code, "GuestIgnoredShutdown");
    assert_eq!(state(&machines, id), State::Running);
    let job = machines
        .request_state(&actor(), id, Ask::ShutDown)
        .await
        .unwrap();
    eventually("the job can be cancelled", || async {
        machines.job(job).unwrap().cancellable.then_some(())
    })
    .await;
    machines.cancel(&actor(), job).await.unwrap();
    assert_eq!(state(&machines, id), State::Running);
    site.counts_on("deaf").await;
}

#[tokio::test]
async fn a_start_that_fails_says_what_qemu_said() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "broken").await;
    std::fs::remove_file(site.path("broken-one.img")).unwrap();
    let job = machines
        .request_state(&actor(), id, Ask::Run)
        .await
        .unwrap();
    let cause = failed(&machines, job).await;
    assert!(cause.what.contains("broken-one.img"), "{cause:?}");
    assert!(!cause.why.is_empty() && !cause.remedy.is_empty());
    assert_eq!(state(&machines, id), State::Off);
}

#[tokio::test]
async fn one_service_at_a_time() {
    let site = Site::new();
    let machines = site.open().await;
    match machines::Machines::open(site.config()).await {
        Err(Error::Locked { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    machines.close().await;
    drop(machines);
    site.open().await;
}

#[tokio::test]
async fn a_dvd_is_changed_while_the_guest_runs() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "dvd").await;
    let dvd = machines::request::NewDevice {
        parent: Some(machines::DeviceId(IDE[1].into())),
        ..device(DeviceKind::DvdDrive)
    };
    let drive = add(&machines, id, vec![dvd]).await.remove(0);
    bring(&machines, id, Ask::Run).await;
    let iso = site.disk("first.iso", b"iso", 1);
    let medium = machines::request::NewDevice {
        kind: DeviceKind::IsoImage,
        ..image(drive, &iso)
    };
    let medium = add(&machines, id, vec![medium]).await.remove(0);
    let second = site.disk("second.iso", b"iso", 1);
    let change = vec![connect(medium.clone(), &second)];
    machines
        .modify_resources(&actor(), id, change)
        .await
        .unwrap();
    let inside = site.process(id).await.block_devices().await.unwrap();
    assert!(
        inside
            .iter()
            .any(|d| d.layers.iter().any(|l| l.path == second)),
        "{inside:?}"
    );
    machines
        .remove_devices(&actor(), id, vec![medium])
        .await
        .unwrap();
    let inside = site.process(id).await.block_devices().await.unwrap();
    assert!(
        !inside
            .iter()
            .any(|d| d.layers.iter().any(|l| l.path == second))
    );
    site.counts_on("dvd").await;
}

#[tokio::test]
async fn a_machine_that_is_only_defined_is_there_after_a_restart() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "plain").await;
    let before = machines.machine(id).unwrap();
    machines.close().await;
    drop(machines);
    let machines = site.open().await;
    let after = machines.machine(id).unwrap();
    assert_eq!(after.settings, before.settings);
    assert_eq!(after.global, before.global);
}

#[tokio::test]
async fn a_machine_that_does_not_answer_keeps_no_other_from_being_served() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "stuck").await;
    let other = site.counter(&machines, "other").await;
    bring(&machines, id, Ask::Run).await;
    let pid = machines.machine(id).unwrap().process.clone().unwrap().pid;
    machines.close().await;
    drop(machines);
    let signal = |name: &str| {
        let status = std::process::Command::new("kill")
            .arg(name)
            .arg(pid.to_string())
            .status();
        assert!(status.unwrap().success());
    };
    signal("-STOP");
    let machines = site.open().await;
    let refused = machines.create_snapshot(&actor(), id).await;
    assert!(matches!(refused, Err(Error::Unsettled(_))), "{refused:?}");
    let health = machines.machine(id).unwrap().health.clone();
    assert!(matches!(health, machines::model::Health::Critical(_)));
    bring(&machines, other, Ask::Run).await;
    machines.close().await;
    drop(machines);
    signal("-CONT");
    let machines = site.open().await;
    assert_eq!(state(&machines, id), State::Running);
    site.counts_on("stuck").await;
    sound(&machines).await;
}

#[tokio::test]
async fn ten_thousand_machines_open_quickly() {
    let site = Site::new();
    let machines = site.open().await;
    let mut waiting = Vec::new();
    for n in 0..200 {
        let machines = machines.clone();
        waiting.push(tokio::spawn(async move {
            for m in 0..50 {
                define(&machines, &format!("Machine {}", n * 50 + m)).await;
            }
        }));
    }
    for task in waiting {
        task.await.unwrap();
    }
    machines.close().await;
    drop(machines);
    let began = std::time::Instant::now();
    let machines = site.open().await;
    let took = began.elapsed();
    assert_eq!(machines.all().len(), 10_000);
    assert!(took < Duration::from_secs(20), "{took:?}");
    let began = std::time::Instant::now();
    for n in 0..1000 {
        assert_eq!(machines.by_name(&format!("MACHINE {}", n * 7)).len(), 1);
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    machines.close().await;
}
