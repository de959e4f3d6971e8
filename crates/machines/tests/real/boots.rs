//! Machines that start with the host, and those that do not.

use crate::site::*;
use machines::model::State;
use machines::request::{GlobalChange, StateRequest as Ask};
use machines::{MachineId, Machines};
use std::sync::Arc;

async fn in_boot(site: &Site, boot: &str) -> Arc<Machines> {
    let mut config = site.config();
    config.boot = Some(boot.into());
    Machines::open(config).await.unwrap()
}

async fn close(machines: Arc<Machines>) {
    machines.close().await;
    eventually("nobody has the service", || async {
        (Arc::strong_count(&machines) == 1).then_some(())
    })
    .await;
}

async fn with_action(machines: &Machines, name: &str, action: u16) -> MachineId {
    let id = define(machines, name).await;
    let change = GlobalChange {
        automatic_startup_action: Some(action),
        ..Default::default()
    };
    machines.modify_global(&actor(), id, change).await.unwrap();
    id
}

async fn runs(machines: &Machines, id: MachineId) {
    eventually("the machine runs", || async {
        (state(machines, id) == State::Running).then_some(())
    })
    .await;
}

#[tokio::test]
async fn machines_start_with_the_host_as_they_are_told_to() {
    let site = Site::new();
    let machines = in_boot(&site, "one").await;
    let never = with_action(&machines, "never", 0).await;
    let ran = with_action(&machines, "ran", 1).await;
    let did_not_run = with_action(&machines, "did not run", 1).await;
    let always = with_action(&machines, "always", 2).await;
    for id in [never, ran] {
        bring(&machines, id, Ask::Run).await;
    }
    close(machines).await;

    // A service that starts again in the same boot starts nothing.
    let machines = in_boot(&site, "one").await;
    assert_eq!(state(&machines, ran), State::Running);
    assert_eq!(state(&machines, always), State::Off);
    for id in [never, ran] {
        site.process(id).await.kill().await.unwrap();
    }
    for id in [never, ran] {
        eventually("the machine is off", || async {
            (state(&machines, id) == State::Off).then_some(())
        })
        .await;
    }
    bring(&machines, ran, Ask::Run).await;
    close(machines).await;

    // The host goes down with what runs on it.
    let process = site.process(ran).await;
    process.kill().await.unwrap();
    let machines = in_boot(&site, "two").await;
    runs(&machines, ran).await;
    runs(&machines, always).await;
    for id in [never, did_not_run] {
        assert_eq!(state(&machines, id), State::Off);
    }
    for id in [ran, always] {
        bring(&machines, id, Ask::TurnOff).await;
    }
    close(machines).await;

    // What was started is not due any more.
    let machines = in_boot(&site, "two").await;
    for id in [never, ran, did_not_run, always] {
        assert_eq!(state(&machines, id), State::Off);
    }
    sound(&machines).await;
}
