//! References, pings and garbage, with time in our hands.

use super::*;
use crate::object::ObjectCall;
use dce_rpc::Fault;

const IID: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

struct Thing;

#[async_trait::async_trait]
impl Object for Thing {
    fn interfaces(&self) -> &[Uuid] {
        &[IID, OTHER]
    }

    async fn call(&self, _: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        Err(Fault::OPERATION_RANGE)
    }
}

struct Scene {
    table: Table,
    start: Instant,
    peer: IpAddr,
}

impl Scene {
    fn new() -> Self {
        Scene {
            table: Table::new(7, TableLimits::default()),
            start: Instant::now(),
            peer: [192, 0, 2, 1].into(),
        }
    }

    fn export(&mut self) -> StandardReference {
        let exported = self.table.export(Arc::new(Thing), IID, Some("alice"), 1);
        exported.unwrap()
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn set(&mut self, set: u64, add: &[u64], remove: &[u64], seconds: u64) -> u64 {
        let now = self.at(seconds);
        let change = SetChange { set, add, remove };
        self.table.change_set(&change, self.peer, now).unwrap()
    }

    fn objects(&self) -> usize {
        self.table.usage().objects
    }
}

#[test]
fn an_object_goes_with_its_last_reference() {
    let mut scene = Scene::new();
    let first = scene.export();
    let second = scene.table.export_again(first.oid, OTHER, 3).unwrap();
    assert_ne!(first.ipid, second.ipid);
    assert_eq!(scene.table.usage().interfaces, 2);
    assert!(scene.table.add_references(&first.ipid, 2));
    scene.table.release(&first.ipid, 3);
    assert_eq!(scene.objects(), 1);
    scene.table.release(&second.ipid, 2);
    assert_eq!(scene.objects(), 1);
    scene.table.release(&second.ipid, 2);
    assert_eq!(scene.table.usage(), Usage::default());
    scene.table.release(&second.ipid, 2);
    assert!(!scene.table.add_references(&first.ipid, 2));
}

#[test]
fn an_interface_that_is_not_there_is_not_given_out() {
    let mut scene = Scene::new();
    let none = Uuid::from_u128(3);
    let thing = Arc::new(Thing);
    let refused = scene.table.export(thing, none, None, 1).unwrap_err();
    assert_eq!(refused, HResult::NO_INTERFACE);
    assert_eq!(scene.objects(), 0);
    let first = scene.export();
    let refused = scene.table.export_again(first.oid, none, 1);
    assert_eq!(refused, Err(HResult::NO_INTERFACE));
    assert!(scene.table.export_again(first.oid, IUNKNOWN, 1).is_ok());
}

#[test]
fn only_the_owner_finds_an_object() {
    let mut scene = Scene::new();
    let ipid = scene.export().ipid;
    assert_eq!(
        scene
            .table
            .find(&ipid, Some("alice"), 1)
            .ok()
            .unwrap()
            .interface,
        IID
    );
    for account in [Some("bob"), None] {
        assert_eq!(
            scene.table.find(&ipid, account, 1).err(),
            Some(NotFound::Denied)
        );
    }
    let unknown = Uuid::from_u128(9);
    assert_eq!(
        scene.table.find(&unknown, Some("alice"), 1).err(),
        Some(NotFound::Gone)
    );
}

#[test]
fn pinged_objects_live_as_long_as_they_are_pinged() {
    let mut scene = Scene::new();
    let (first, second) = (scene.export(), scene.export());
    let set = scene.set(0, &[first.oid, second.oid, 77], &[], 0);
    assert!(set < 65536);
    // The connection does not matter for them.
    scene.table.disconnected(1, scene.at(1));
    for seconds in (100..2000).step_by(100) {
        let now = scene.at(seconds);
        assert_eq!(scene.table.ping(set, scene.peer, now), Ok(()));
        scene.table.collect(now);
    }
    assert_eq!(scene.objects(), 2);
    scene.set(set, &[], &[first.oid, 78], 2000);
    let now = scene.at(2300);
    scene.table.ping(set, scene.peer, now).unwrap();
    scene.table.collect(scene.at(2359));
    assert_eq!(scene.objects(), 2);
    scene.table.collect(scene.at(2360));
    assert_eq!(scene.objects(), 1);
    scene.table.collect(scene.at(2659));
    assert_eq!(scene.objects(), 1);
    scene.table.collect(scene.at(2660));
    assert_eq!(scene.table.usage(), Usage::default());
}

#[test]
fn an_object_that_left_its_sets_lives_on_while_it_is_used() {
    let mut scene = Scene::new();
    let thing = scene.export();
    let set = scene.set(0, &[thing.oid], &[], 0);
    scene.set(set, &[], &[thing.oid], 100);
    scene
        .table
        .find(&thing.ipid, Some("alice"), 1)
        .ok()
        .unwrap();
    scene.table.collect(scene.at(5000));
    assert_eq!(scene.objects(), 1);
    scene.table.disconnected(1, scene.at(5000));
    scene.table.collect(scene.at(5360));
    assert_eq!(scene.objects(), 0);
}

#[test]
fn sets_are_their_clients_own() {
    let mut scene = Scene::new();
    let set = scene.set(0, &[], &[], 0);
    let (now, other) = (scene.at(1), IpAddr::from([192, 0, 2, 2]));
    assert_eq!(scene.table.ping(set, other, now), Err(SetError::Unknown));
    let change = SetChange {
        set,
        add: &[],
        remove: &[],
    };
    let changed = scene.table.change_set(&change, other, now);
    assert_eq!(changed, Err(SetError::Unknown));
    assert_eq!(
        scene.table.ping(set + 1, scene.peer, now),
        Err(SetError::Unknown)
    );
}

#[test]
fn objects_that_are_never_pinged_live_as_long_as_their_connection_and_some_minutes() {
    let mut scene = Scene::new();
    let (used, unused) = (scene.export(), scene.export());
    scene.table.find(&used.ipid, Some("alice"), 2).ok().unwrap();
    scene.table.disconnected(1, scene.at(100));
    scene.table.collect(scene.at(459));
    assert_eq!(scene.objects(), 2);
    scene.table.collect(scene.at(460));
    assert_eq!(scene.objects(), 1);
    assert!(scene.table.find(&unused.ipid, Some("alice"), 2).is_err());
    scene.table.disconnected(2, scene.at(1000));
    scene.table.find(&used.ipid, Some("alice"), 3).ok().unwrap();
    scene.table.collect(scene.at(9000));
    assert_eq!(scene.objects(), 1);
}

#[test]
fn an_account_has_so_many_objects_and_abandoned_ones_make_room() {
    let mut scene = Scene::new();
    scene.table.limits.objects_of_account = 3;
    for _ in 0..3 {
        scene.export();
    }
    let refused = scene.table.export(Arc::new(Thing), IID, Some("alice"), 2);
    assert_eq!(refused, Err(HResult::OUT_OF_MEMORY));
    let other = scene.table.export(Arc::new(Thing), IID, Some("bob"), 2);
    assert!(other.is_ok());
    scene.table.disconnected(1, scene.at(1));
    for _ in 0..3 {
        let exported = scene.table.export(Arc::new(Thing), IID, Some("alice"), 2);
        assert!(exported.is_ok());
    }
    assert_eq!(scene.objects(), 4);
}

#[test]
fn a_client_has_so_many_ping_sets() {
    let mut scene = Scene::new();
    for _ in 0..TableLimits::default().ping_sets_of_peer {
        scene.set(0, &[], &[], 0);
    }
    let change = SetChange {
        set: 0,
        add: &[],
        remove: &[],
    };
    let refused = scene.table.change_set(&change, scene.peer, scene.start);
    assert_eq!(refused, Err(SetError::Limit));
    scene.table.collect(scene.at(360));
    assert_eq!(scene.table.usage().ping_sets, 0);
}
