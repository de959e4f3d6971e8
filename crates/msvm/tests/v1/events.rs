//! Events of machines, settings, snapshots and jobs, as event queries see them: pushed by what the
//! machines do, in the order in which they do it.

use crate::fixture::{Fixture, caller, changed, path, reference, text};
use cim::{Instance, Value};
use cim_broker::{NoEvent, Role, Subscription};
use std::time::Duration;

const SETTINGS: &str = "Msvm_VirtualSystemSettingData";

impl Fixture {
    fn watch(&self, query: &str) -> Subscription {
        self.watch_as(Role::Viewer, query)
    }

    fn watch_as(&self, role: Role, query: &str) -> Subscription {
        self.broker
            .subscribe(&caller(role), &self.namespace, "WQL", query)
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    async fn event(&self, subscription: &mut Subscription) -> Instance {
        let next = self.broker.next_event(subscription);
        let event = tokio::time::timeout(Duration::from_secs(60), next).await;
        event.expect("an event comes").expect("no interruption")
    }

    /// The events up to the first that satisfies `last`.
    async fn events_until(
        &self,
        subscription: &mut Subscription,
        last: impl Fn(&Instance) -> bool,
    ) -> Vec<Instance> {
        let mut events = Vec::new();
        loop {
            let event = self.event(subscription).await;
            let done = last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
    }

    /// No event is waiting: everything that happened so far has been looked at.
    async fn expect_silence(&self, subscription: &mut Subscription) {
        let next = self.broker.next_event(subscription);
        let event = tokio::time::timeout(Duration::ZERO, next).await;
        assert!(event.is_err(), "{event:?}");
    }
}

fn target(event: &Instance) -> &Instance {
    event
        .value("TargetInstance")
        .as_instance()
        .expect("an object")
}

fn previous(event: &Instance) -> &Instance {
    event
        .value("PreviousInstance")
        .as_instance()
        .expect("an object")
}

fn job_state(event: &Instance) -> Option<u16> {
    target(event).value("JobState").as_u16()
}

/// Where in `events` the first one stands that satisfies `is`.
fn place(events: &[Instance], is: impl Fn(&Instance) -> bool) -> usize {
    let place = events.iter().position(is);
    place.unwrap_or_else(|| panic!("not among {events:#?}"))
}

#[tokio::test]
async fn a_state_change_is_told_with_the_state_before() {
    let fixture = Fixture::new().await;
    let machine = fixture.small("disk.raw").await;
    let mut states = fixture.watch(
        "SELECT * FROM __InstanceModificationEvent WITHIN 2 WHERE TargetInstance ISA \
         'Msvm_ComputerSystem' AND TargetInstance.EnabledState <> PreviousInstance.EnabledState",
    );
    let mut jobs = fixture.watch(
        "SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'CIM_ConcreteJob' \
         OR TargetInstance ISA 'Msvm_ComputerSystem'",
    );
    let mut devices = fixture
        .watch("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_DiskDrive'");
    let job = fixture.bring(&machine, 2).await;

    let is_running = |event: &Instance| target(event).value("EnabledState").as_u16() == Some(2);
    let told = fixture.events_until(&mut states, is_running).await;
    for event in &told {
        assert!(event.class.is("__InstanceModificationEvent"));
        assert_eq!(target(event).path, machine.path);
        assert!(event.value("TIME_CREATED").as_u64().expect("a time") > 130_000_000_000_000_000);
    }
    // Each begins where the one before ended, from off to running.
    assert_eq!(previous(&told[0]).value("EnabledState").as_u16(), Some(3));
    for pair in told.windows(2) {
        let (end, start) = (target(&pair[0]), previous(&pair[1]));
        assert_eq!(end.value("EnabledState"), start.value("EnabledState"));
    }
    fixture.expect_silence(&mut states).await;

    let is_job = |event: &Instance| target(event).path == job.path;
    let told = fixture
        .events_until(&mut jobs, |event| {
            is_job(event) && job_state(event) == Some(7)
        })
        .await;
    let begun = place(&told, is_job);
    assert!(told[begun].class.is("__InstanceCreationEvent"));
    assert_eq!(job_state(&told[begun]), Some(4));
    assert!(begun < place(&told, is_running), "{told:#?}");
    let last = told.last().expect("an event");
    assert!(last.class.is("__InstanceModificationEvent"));
    assert_eq!(previous(last).value("JobState").as_u16(), Some(4));

    let device = fixture.event(&mut devices).await;
    assert_eq!(text(target(&device), "SystemName"), text(&machine, "Name"));
}

#[tokio::test]
async fn a_snapshot_is_told_before_its_job_completes() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    let mut everything = fixture.watch(&format!(
        "SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'Msvm_ConcreteJob' \
         OR TargetInstance ISA '{SETTINGS}'"
    ));
    let mut links = fixture.watch(
        "SELECT * FROM __InstanceOperationEvent WITHIN 1 WHERE \
         TargetInstance ISA 'Msvm_ElementSettingData'",
    );
    let mut resources = fixture.watch(
        "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'Msvm_MemorySettingData'",
    );
    let snapshot = fixture.snapshot(&machine).await;

    let told = fixture
        .events_until(&mut everything, |event| job_state(event) == Some(7))
        .await;
    let created = place(&told, |event| {
        event.class.is("__InstanceCreationEvent") && target(event).path == snapshot.path
    });
    assert_eq!(target(&told[created]), &snapshot);
    assert!(created < told.len() - 1, "{told:#?}");
    // The active settings now descend from it.
    let moved = place(&told, |event| {
        event.class.is("__InstanceModificationEvent") && target(event).class.is(SETTINGS)
    });
    let parent = path(&snapshot).to_string();
    assert_eq!(target(&told[moved]).str("Parent"), Some(parent.as_str()));
    assert_eq!(previous(&told[moved]).value("Parent"), &Value::Null);

    let link = fixture.event(&mut links).await;
    assert!(link.class.is("__InstanceCreationEvent"));
    let known = fixture.get(target(&link).path.as_ref().expect("a name"));
    assert_eq!(target(&link), &known);
    let memory = fixture.event(&mut resources).await;
    assert!(text(target(&memory), "InstanceID").starts_with(text(&snapshot, "InstanceID")));

    // Gone again: told with what it was.
    let answer = fixture
        .call(
            "RemoveVirtualSystemSnapshot",
            &[("SnapshotSettingData", reference(&snapshot))],
        )
        .await;
    fixture.finished(&answer.path("Job")).await;
    let told = fixture
        .events_until(&mut everything, |event| job_state(event) == Some(7))
        .await;
    let removed = place(&told, |event| event.class.is("__InstanceDeletionEvent"));
    assert_eq!(target(&told[removed]).path, snapshot.path);
    let link = fixture.event(&mut links).await;
    assert!(link.class.is("__InstanceDeletionEvent"));
}

#[tokio::test]
async fn machines_come_change_and_go() {
    let fixture = Fixture::new().await;
    let mut events = fixture.watch(
        "SELECT TargetInstance, __CLASS FROM __InstanceOperationEvent \
         WHERE TargetInstance ISA 'Msvm_ComputerSystem'",
    );
    let machine = fixture.define("web01").await;
    let event = fixture.event(&mut events).await;
    assert!(event.class.is("__InstanceCreationEvent"));
    assert_eq!(event.properties.len(), 2, "as selected");
    assert_eq!(target(&event).path, machine.path);

    let settings = fixture.settings(&machine);
    let renamed = changed(&settings, &[("ElementName", "web02".into())]);
    let arguments = [
        ("ComputerSystem", reference(&machine)),
        ("SystemSettingData", renamed),
    ];
    assert_eq!(
        fixture.call("ModifyVirtualSystem", &arguments).await.code,
        0
    );
    let event = fixture.event(&mut events).await;
    assert!(event.class.is("__InstanceModificationEvent"));
    assert_eq!(text(target(&event), "ElementName"), "web02");

    let answer = fixture
        .call(
            "DestroyVirtualSystem",
            &[("ComputerSystem", reference(&machine))],
        )
        .await;
    if !answer.out("Job").is_null() {
        fixture.finished(&answer.path("Job")).await;
    }
    let gone = |event: &Instance| event.class.is("__InstanceDeletionEvent");
    let told = fixture.events_until(&mut events, gone).await;
    let last = told.last().expect("an event");
    assert_eq!(text(target(last), "ElementName"), "web02");
}

#[tokio::test]
async fn nothing_arrives_without_rights_and_the_end_is_told() {
    let fixture = Fixture::new().await;
    let query = "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA \
                 'Msvm_ComputerSystem' OR TargetInstance ISA 'Msvm_ElementSettingData'";
    let mut blind = fixture.watch_as(Role::None, query);
    let mut seeing = fixture.watch(query);
    fixture.define("web01").await;
    fixture.event(&mut seeing).await;
    fixture.expect_silence(&mut blind).await;
    fixture.machines.close().await;
    let end = loop {
        match fixture.broker.next_event(&mut seeing).await {
            Ok(_) => {}
            Err(end) => break end,
        }
    };
    assert_eq!(end, NoEvent::Ended);
}
