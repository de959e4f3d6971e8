//! The fixture with the calls of V2's clients.

use crate::fixture::{Answer, Fixture, embedded, path, reference};
use cim::{Instance, Namespace, ObjectPath, Value};
use std::ops::{Deref, DerefMut};

pub const SETTINGS: &str = "Msvm_VirtualSystemSettingData";

/// A fixture that looks at V2.
pub struct Site(Fixture);

impl Deref for Site {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.0
    }
}

impl DerefMut for Site {
    fn deref_mut(&mut self) -> &mut Fixture {
        &mut self.0
    }
}

impl Site {
    pub async fn new() -> Site {
        let mut fixture = Fixture::new().await;
        fixture.namespace = Namespace::new(msvm::NAMESPACE_V2);
        Site(fixture)
    }

    /// What `look` sees in V1.
    pub fn in_v1<T>(&mut self, look: impl FnOnce(&Fixture) -> T) -> T {
        let v2 = std::mem::replace(&mut self.namespace, Namespace::new(msvm::NAMESPACE));
        let seen = look(&self.0);
        self.namespace = v2;
        seen
    }

    pub async fn define_system(&self, name: &str) -> Instance {
        let settings = embedded(SETTINGS, &[("ElementName", "string", name)]);
        let answer = self
            .call("DefineSystem", &[("SystemSettings", settings)])
            .await;
        assert_eq!(answer.code, 0);
        assert!(answer.out("Job").is_null());
        self.get(&answer.path("ResultingSystem"))
    }

    /// A method of the snapshot service.
    pub async fn snapshots(&self, method: &str, arguments: &[(&str, Value)]) -> Answer {
        let service = self.one("SELECT * FROM Msvm_VirtualSystemSnapshotService");
        let role = cim_broker::Role::Administrator;
        self.call_as(role, path(&service), method, arguments).await
    }

    /// Takes a snapshot and answers its settings, found through the job.
    pub async fn snapshot(&self, system: &Instance) -> Instance {
        let arguments = [
            ("AffectedSystem", reference(system)),
            ("SnapshotType", Value::Uint16(2)),
        ];
        let answer = self.snapshots("CreateSnapshot", &arguments).await;
        assert_eq!(answer.code, 4096);
        assert!(answer.out("ResultingSnapshot").is_null());
        let job = self.done(&answer.path("Job")).await;
        let made = self.associators(&job, "Msvm_AffectedJobElement", SETTINGS);
        assert_eq!(made.len(), 1);
        made.into_iter().next().expect("a snapshot")
    }

    /// The job, completed.
    pub async fn done(&self, job: &ObjectPath) -> Instance {
        let job = self.finished(job).await;
        let number = |property| job.get(property).and_then(Value::as_u16);
        assert_eq!(number("JobState"), Some(7), "{job:?}");
        assert_eq!(number("ErrorCode"), Some(0));
        job
    }

    pub async fn request_state(&self, system: &Instance, state: u16) -> Answer {
        let role = cim_broker::Role::Administrator;
        let arguments = [("RequestedState", Value::Uint16(state))];
        self.call_as(role, path(system), "RequestStateChange", &arguments)
            .await
    }
}

pub fn number(instance: &Instance, property: &str) -> u64 {
    instance
        .get(property)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("{property} of {} is no number", instance.class))
}
