//! Open and pull sessions.

use crate::fleet::{account, administrator, world};
use cim::{CimStatus, Name, ObjectPath};
use cim_broker::Role;
use cim_broker::enumeration::{Batch, Enumerations, Kind, Limits, Objects, OpenOptions};
use std::time::Duration;

fn paths(count: u32) -> Objects {
    let path = |n: u32| ObjectPath::of_instance("T_Slot", [("Number", u64::from(n))]);
    Objects::Paths((0..count).map(path).collect())
}

fn numbers(batch: &Batch) -> Vec<String> {
    match &batch.objects {
        Objects::Paths(paths) => paths.iter().map(ObjectPath::relpath).collect(),
        Objects::Instances(_) => panic!("instances"),
    }
}

fn open(sessions: &Enumerations, user: &str, count: u32, first: u32) -> Batch {
    sessions
        .open(
            &account(user, Role::Viewer),
            Kind::Paths,
            paths(count),
            sessions.limits().default_timeout,
            first,
        )
        .unwrap()
}

#[tokio::test]
async fn pulls_hand_out_everything_once_and_in_order() {
    let sessions = Enumerations::default();
    let me = account("me", Role::Viewer);
    let mut batch = open(&sessions, "me", 10, 4);
    let mut seen = numbers(&batch);
    assert_eq!(seen.len(), 4);
    while let Some(id) = batch.context.clone() {
        batch = sessions.pull(&me, Kind::Paths, &id, 3).unwrap();
        assert!(batch.objects.len() <= 3);
        seen.extend(numbers(&batch));
    }
    let all = sessions.open(&me, Kind::Paths, paths(10), Duration::from_secs(1), 10);
    assert_eq!(seen, numbers(&all.unwrap()));
    assert_eq!(sessions.open_sessions(), 0);
}

#[tokio::test]
async fn nothing_left_means_no_session() {
    let sessions = Enumerations::default();
    assert_eq!(open(&sessions, "me", 0, 0).context, None);
    assert_eq!(open(&sessions, "me", 3, 3).context, None);
    assert!(open(&sessions, "me", 3, 0).context.is_some());
}

#[tokio::test]
async fn a_session_belongs_to_its_user_and_its_kind() {
    let sessions = Enumerations::default();
    let id = open(&sessions, "me", 3, 0).context.unwrap();
    let other = account("other", Role::Administrator);
    let me = account("me", Role::Viewer);
    let error = sessions.pull(&other, Kind::Paths, &id, 1).unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidEnumerationContext);
    let error = sessions.close(&other, &id).unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidEnumerationContext);
    let error = sessions
        .pull(&me, Kind::InstancesWithPath, &id, 1)
        .unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidParameter);
    assert_eq!(sessions.remaining(&me, &id).unwrap(), 3);
    sessions.close(&me, &id).unwrap();
    for id in [id.as_str(), "nonsense", ""] {
        let error = sessions.pull(&me, Kind::Paths, id, 1).unwrap_err();
        assert_eq!(error.status, CimStatus::InvalidEnumerationContext);
        let error = sessions.close(&me, id).unwrap_err();
        assert_eq!(error.status, CimStatus::InvalidEnumerationContext);
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_end_when_nobody_pulls() {
    let sessions = Enumerations::default();
    let me = account("me", Role::Viewer);
    let id = open(&sessions, "me", 3, 0).context.unwrap();
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(25)).await;
        // A pull of nothing starts the time-out anew.
        sessions.pull(&me, Kind::Paths, &id, 0).unwrap();
    }
    tokio::time::advance(Duration::from_secs(31)).await;
    let error = sessions.pull(&me, Kind::Paths, &id, 1).unwrap_err();
    assert_eq!(error.status, CimStatus::InvalidEnumerationContext);
    assert_eq!(sessions.open_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn limits_hold_and_become_free_again() {
    let sessions = Enumerations::new(Limits {
        sessions_per_user: 2,
        sessions: 3,
        objects: 20,
        ..Limits::default()
    });
    let refused = |user: &str, count: u32| {
        let context = account(user, Role::Viewer);
        let opened = sessions.open(
            &context,
            Kind::Paths,
            paths(count),
            Duration::from_secs(30),
            0,
        );
        assert_eq!(opened.unwrap_err().status, CimStatus::ServerLimitsExceeded);
    };
    let first = open(&sessions, "me", 5, 0).context.unwrap();
    open(&sessions, "me", 5, 0);
    refused("me", 1);
    refused("other", 11);
    open(&sessions, "other", 5, 0);
    refused("third", 1);
    sessions
        .close(&account("me", Role::Viewer), &first)
        .unwrap();
    open(&sessions, "third", 1, 0);
    tokio::time::advance(Duration::from_secs(60)).await;
    open(&sessions, "me", 20, 0);
    refused("other", 1);
    let small = Enumerations::new(Limits {
        bytes: 100,
        ..Limits::default()
    });
    let me = account("me", Role::Viewer);
    let opened = small.open(&me, Kind::Paths, paths(50), Duration::from_secs(30), 0);
    assert_eq!(opened.unwrap_err().status, CimStatus::ServerLimitsExceeded);
}

#[tokio::test]
async fn options_that_are_not_offered_are_refused() {
    let limits = Limits::default();
    let status = |options: OpenOptions| options.check(&limits).map_err(|e| e.status);
    let timeout = |seconds| OpenOptions {
        operation_timeout: Some(seconds),
        ..OpenOptions::default()
    };
    assert_eq!(status(OpenOptions::default()), Ok(Duration::from_secs(30)));
    assert_eq!(status(timeout(1800)), Ok(Duration::from_secs(1800)));
    assert_eq!(
        status(timeout(1801)),
        Err(CimStatus::InvalidOperationTimeout)
    );
    assert_eq!(status(timeout(0)), Err(CimStatus::InvalidOperationTimeout));
    let filtered = OpenOptions {
        filter_query_language: Some("DMTF:FQL".to_owned()),
        filter_query: Some("Number = 1".to_owned()),
        ..OpenOptions::default()
    };
    assert!(filtered.check_query(&limits).is_ok());
    assert_eq!(
        status(filtered),
        Err(CimStatus::FilteredEnumerationNotSupported)
    );
    let on_error = OpenOptions {
        continue_on_error: true,
        ..OpenOptions::default()
    };
    assert_eq!(
        status(on_error),
        Err(CimStatus::ContinuationOnErrorNotSupported)
    );
}

#[tokio::test]
async fn a_stopping_server_says_so() {
    let sessions = Enumerations::default();
    let me = account("me", Role::Viewer);
    let id = open(&sessions, "me", 3, 0).context.unwrap();
    sessions.stop();
    let error = sessions.pull(&me, Kind::Paths, &id, 1).unwrap_err();
    assert_eq!(error.status, CimStatus::ServerIsShuttingDown);
    let opened = sessions.open(&me, Kind::Paths, paths(3), Duration::from_secs(1), 0);
    assert_eq!(opened.unwrap_err().status, CimStatus::ServerIsShuttingDown);
}

#[tokio::test]
async fn the_broker_has_sessions_over_its_answers() {
    let world = world(3, 1);
    let me = administrator();
    let instances = world
        .broker
        .enumerate_instances(&me, &world.namespace, &Name::new("T_Machine"), true, None)
        .unwrap();
    let sessions = world.broker.enumerations();
    let batch = sessions
        .open(
            &me,
            Kind::InstancesWithPath,
            Objects::Instances(instances),
            Duration::from_secs(9),
            1,
        )
        .unwrap();
    let rest = sessions
        .pull(&me, Kind::InstancesWithPath, &batch.context.unwrap(), 100)
        .unwrap();
    assert_eq!((rest.objects.len(), rest.context), (2, None));
}
