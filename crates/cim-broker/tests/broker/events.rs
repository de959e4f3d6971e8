//! Event queries, over a provider that announces what the test tells it.

use crate::fleet::{HOST, NAMESPACE, account, administrator, repository};
use async_trait::async_trait;
use cim::{CimError, CimStatus, Instance, Name, Namespace, ObjectPath, Value};
use cim_broker::{
    Association, Broker, Change, Changes, ClassOptions, Context, Equality, Interruption, NoEvent,
    Provider, Role, Subscription,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;

/// Serves machines, which operators may see, and slots; announces the former.
struct Announcer {
    changes: broadcast::Sender<Vec<Change>>,
}

#[async_trait]
impl Provider for Announcer {
    fn classes(&self) -> Vec<Name> {
        vec!["T_Machine".into(), "T_Host".into(), "T_Slot".into()]
    }

    fn read_role(&self, class: &Name) -> Role {
        if class.is("T_Host") {
            Role::Administrator
        } else {
            Role::Viewer
        }
    }

    fn enumerate(&self, _: &Context, _: &Name, _: &[Equality]) -> Result<Vec<Instance>, CimError> {
        Ok(Vec::new())
    }

    fn required_role(&self, _: &Name, _: &Name) -> Role {
        Role::Viewer
    }

    fn changes(&self, classes: &[Name]) -> Option<Box<dyn Changes>> {
        let announced = ["T_Machine", "T_Host", "T_Hosted"];
        let any = classes
            .iter()
            .any(|class| announced.iter().any(|it| class.is(it)));
        any.then(|| -> Box<dyn Changes> { Box::new(Stream(self.changes.subscribe())) })
    }
}

struct Stream(broadcast::Receiver<Vec<Change>>);

#[async_trait]
impl Changes for Stream {
    async fn next(&mut self) -> Result<Vec<Change>, Interruption> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(count) => Interruption::Missed(count),
            broadcast::error::RecvError::Closed => Interruption::Ended,
        })
    }
}

struct Site {
    broker: Broker,
    changes: broadcast::Sender<Vec<Change>>,
}

fn site() -> Site {
    let changes = broadcast::Sender::new(8);
    let mut broker = Broker::new(HOST);
    let namespace = Namespace::new(NAMESPACE);
    broker.add_namespace(namespace.clone(), repository());
    let provider = Announcer {
        changes: changes.clone(),
    };
    broker.add_provider(&namespace, Arc::new(provider));
    let hosted = Association {
        class: "T_Hosted".into(),
        roles: ("Antecedent".into(), "Dependent".into()),
        end_classes: (vec!["T_Host".into()], vec!["T_Machine".into()]),
        forward: Box::new(|_, _| Ok(Vec::new())),
        backward: Box::new(|_, _| Ok(Vec::new())),
        properties: None,
    };
    broker.add_associations(&namespace, vec![hosted]);
    Site { broker, changes }
}

impl Site {
    fn watch_as(&self, who: &Context, query: &str) -> Result<Subscription, CimError> {
        self.broker
            .subscribe(who, &Namespace::new(NAMESPACE), "WQL", query)
    }

    fn watch(&self, query: &str) -> Subscription {
        self.watch_as(&administrator(), query).expect(query)
    }

    fn refused(&self, query: &str) -> CimError {
        let watched = self.watch_as(&administrator(), query);
        watched.err().unwrap_or_else(|| panic!("{query} is served"))
    }

    fn tell(&self, change: Change) {
        self.changes.send(vec![change]).expect("somebody watches");
    }

    async fn next(&self, subscription: &mut Subscription) -> Result<Instance, NoEvent> {
        self.broker.next_event(subscription).await
    }

    async fn is_silent(&self, subscription: &mut Subscription) -> bool {
        let next = self.broker.next_event(subscription);
        tokio::time::timeout(Duration::ZERO, next).await.is_err()
    }
}

fn machine(name: &str, state: u16) -> Box<Instance> {
    let repository = repository();
    let class = repository.class(&"T_Machine".into()).expect("a class");
    let machine = Instance::builder(class)
        .set("CreationClassName", "T_Machine")
        .set("Name", name)
        .set("State", state)
        .build_named();
    Box::new(machine.expect("a machine"))
}

fn modified(name: &str, before: u16, after: u16) -> Change {
    Change::Instance {
        before: Some(machine(name, before)),
        after: Some(machine(name, after)),
    }
}

fn created(name: &str) -> Change {
    Change::Instance {
        before: None,
        after: Some(machine(name, 3)),
    }
}

fn name_of(event: &Instance) -> &str {
    let target = event.value("TargetInstance").as_instance();
    target.and_then(|it| it.str("Name")).expect("a machine")
}

#[tokio::test]
async fn conditions_look_at_the_object_now_and_before() {
    let site = site();
    let mut events = site.watch(
        "SELECT * FROM __InstanceModificationEvent WITHIN 1 WHERE TargetInstance ISA 'T_System' \
         AND TargetInstance.State = 2 AND PreviousInstance.State <> 2",
    );
    site.tell(created("new"));
    site.tell(modified("stopped", 2, 3));
    site.tell(modified("still", 2, 2));
    site.tell(modified("started", 3, 2));
    let event = site.next(&mut events).await.expect("an event");
    assert_eq!(name_of(&event), "started");
    assert!(event.class.is("__InstanceModificationEvent"));
    let before = event
        .value("PreviousInstance")
        .as_instance()
        .expect("as it was");
    assert_eq!(before.value("State"), &Value::Uint16(3));
    // Objects in events are named as everywhere.
    let path = before.path.as_ref().expect("a name");
    assert_eq!(path.host.as_deref(), Some(HOST));
    assert!(site.is_silent(&mut events).await);
}

#[tokio::test]
async fn each_subscription_has_its_own_events_and_selection() {
    let site = site();
    let mut all =
        site.watch("SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'T_Machine'");
    let mut gone = site.watch(
        "SELECT TIME_CREATED FROM __InstanceDeletionEvent WHERE TargetInstance.__CLASS = 'T_Machine'",
    );
    site.tell(created("a"));
    site.tell(Change::Instance {
        before: Some(machine("a", 3)),
        after: None,
    });
    for class in ["__InstanceCreationEvent", "__InstanceDeletionEvent"] {
        let event = site.next(&mut all).await.expect("an event");
        assert!(event.class.is(class));
        assert_eq!(name_of(&event), "a");
    }
    let event = site.next(&mut gone).await.expect("an event");
    let names: Vec<&str> = event.properties.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["TIME_CREATED"]);
}

#[tokio::test]
async fn links_are_told_to_those_who_may_see_both_ends() {
    let site = site();
    let query = "SELECT * FROM __InstanceOperationEvent WHERE TargetInstance ISA 'T_Dependency'";
    let mut seeing = site.watch(query);
    let viewer = account("v", Role::Viewer);
    let mut blind = site.watch_as(&viewer, query).expect("nothing is refused");
    let end = |class: &str| {
        let keys = [("CreationClassName", class), ("Name", "x")];
        ObjectPath::of_instance(class, keys)
    };
    site.tell(Change::Link {
        association: "T_Hosted".into(),
        ends: (end("T_Host"), end("T_Machine")),
        appeared: true,
    });
    let event = site.next(&mut seeing).await.expect("an event");
    assert!(event.class.is("__InstanceCreationEvent"));
    let link = event.value("TargetInstance").as_instance().expect("a link");
    assert!(link.class.is("T_Hosted"));
    let far = link.value("Dependent").as_reference().expect("its end");
    assert!(far.class.is("T_Machine"));
    assert!(site.is_silent(&mut blind).await);
}

#[tokio::test]
async fn without_rights_nothing_arrives() {
    let site = site();
    let query = "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_System'";
    let nobody = account("nobody", Role::None);
    let mut events = site.watch_as(&nobody, query).expect("nothing is refused");
    let mut seen = site.watch(query);
    site.tell(created("a"));
    assert!(site.next(&mut seen).await.is_ok());
    assert!(site.is_silent(&mut events).await);
}

#[tokio::test]
async fn lost_changes_are_told_and_so_is_the_end() {
    let mut site = site();
    let mut events =
        site.watch("SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_Machine'");
    for number in 0..11 {
        site.tell(created(&number.to_string()));
    }
    assert_eq!(site.next(&mut events).await.err(), Some(NoEvent::Missed(3)));
    for number in 3..11 {
        let event = site.next(&mut events).await.expect("what is still there");
        assert_eq!(name_of(&event), number.to_string());
    }
    // The provider goes, and its end of the stream with it.
    site.changes = broadcast::Sender::new(1);
    let Site { broker, .. } = site;
    assert!(
        tokio::time::timeout(Duration::ZERO, broker.next_event(&mut events))
            .await
            .is_err()
    );
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let site = site();
    let status = |query: &str| site.refused(query).status;
    for (query, expected) in [
        (
            "SELECT * FROM __InstanceCreationEvent",
            CimStatus::InvalidQuery,
        ),
        ("SELECT * FROM T_Machine WITHIN 5", CimStatus::InvalidQuery),
        (
            "SELECT * FROM __NoEvent WHERE TargetInstance ISA 'T_Machine'",
            CimStatus::InvalidClass,
        ),
        (
            "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'X'",
            CimStatus::InvalidClass,
        ),
        (
            "SELECT * FROM __ExtrinsicEvent WHERE TargetInstance ISA 'T_Machine'",
            CimStatus::InvalidQuery,
        ),
        ("SELECT * FROM __ExtrinsicEvent", CimStatus::NotSupported),
        (
            "SELECT * FROM __ClassCreationEvent",
            CimStatus::NotSupported,
        ),
        (
            "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_Slot'",
            CimStatus::NotSupported,
        ),
        (
            "SELECT * FROM __InstanceCreationEvent WITHIN 1 WHERE TargetInstance ISA 'T_Machine' \
             GROUP WITHIN 5",
            CimStatus::NotSupported,
        ),
        (
            "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_Machine' AND \
             TargetInstance.Stat = 2",
            CimStatus::InvalidQuery,
        ),
        (
            "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_Machine' AND \
             PreviousInstance.State = 2",
            CimStatus::InvalidQuery,
        ),
    ] {
        assert_eq!(status(query), expected, "{query}");
    }
    let broad = site.refused("SELECT * FROM __InstanceCreationEvent");
    assert!(broad.message.contains("TargetInstance ISA"), "{broad}");
}

#[test]
fn subscriptions_of_one_account_are_counted_and_given_back() {
    let site = site();
    let query = "SELECT * FROM __InstanceCreationEvent WHERE TargetInstance ISA 'T_Machine'";
    let mut kept: Vec<Subscription> = (0..64).map(|_| site.watch(query)).collect();
    let status = site.refused(query).status;
    assert_eq!(status, CimStatus::ServerLimitsExceeded);
    let other = account("other", Role::Viewer);
    assert!(site.watch_as(&other, query).is_ok());
    kept.pop();
    assert_eq!(kept.len(), 63);
    site.watch(query);
}

#[test]
fn every_namespace_has_the_classes_of_events() {
    let site = site();
    let namespace = Namespace::new(NAMESPACE);
    let class = |name: &str| {
        let options = ClassOptions {
            include_qualifiers: true,
            ..ClassOptions::default()
        };
        site.broker
            .get_class(&administrator(), &namespace, &name.into(), &options)
    };
    let modification = class("__instancemodificationevent").expect("a class");
    assert_eq!(
        modification.superclass,
        Some("__InstanceOperationEvent".into())
    );
    let names: Vec<&str> = modification
        .properties
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    let expected = [
        "SECURITY_DESCRIPTOR",
        "TIME_CREATED",
        "TargetInstance",
        "PreviousInstance",
    ];
    assert_eq!(names, expected);
    assert!(class("__ExtrinsicEvent").expect("a class").is_abstract());
    let options = ClassOptions::default();
    let below = site.broker.enumerate_classes(
        &administrator(),
        &namespace,
        Some(&"__InstanceOperationEvent".into()),
        true,
        &options,
    );
    assert_eq!(below.expect("classes").len(), 3);
}
