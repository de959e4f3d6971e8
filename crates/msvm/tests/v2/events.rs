//! Events of V2's classes, from what either namespace does.

use crate::fixture::{caller, path, text};
use crate::site::{Site, number};
use cim::Instance;
use cim_broker::{Role, Subscription};
use std::time::Duration;

async fn target(site: &Site, events: &mut Subscription) -> Instance {
    let next = site.broker.next_event(events);
    let event = tokio::time::timeout(Duration::from_secs(120), next).await;
    let event = event.expect("an event comes").expect("no interruption");
    let target = event.value("TargetInstance").as_instance();
    target.expect("an object").clone()
}

#[tokio::test]
async fn what_happens_is_told_in_the_words_of_v2() {
    let site = Site::new().await;
    let watch = |query: &str| {
        site.broker
            .subscribe(&caller(Role::Viewer), &site.namespace, "WQL", query)
            .expect("a subscription")
    };
    let mut systems = watch(
        "SELECT * FROM __InstanceCreationEvent WITHIN 1 WHERE TargetInstance ISA \
         'Msvm_ComputerSystem'",
    );
    let mut snapshots = watch(
        "SELECT * FROM __InstanceCreationEvent WITHIN 1 WHERE TargetInstance ISA \
         'Msvm_VirtualSystemSettingData' AND TargetInstance.VirtualSystemType = \
         'Microsoft:Hyper-V:Snapshot:Realized'",
    );
    let mut jobs = watch(
        "SELECT * FROM __InstanceModificationEvent WITHIN 1 WHERE TargetInstance ISA \
         'Msvm_ConcreteJob' AND TargetInstance.JobState = 7",
    );
    let system = site.define_system("told").await;
    let told = target(&site, &mut systems).await;
    assert_eq!(path(&told), path(&system));
    let snapshot = site.snapshot(&system).await;
    let told = target(&site, &mut snapshots).await;
    assert_eq!(text(&told, "InstanceID"), text(&snapshot, "InstanceID"));
    assert_eq!(path(&told), path(&snapshot));
    let job = target(&site, &mut jobs).await;
    assert_eq!(number(&job, "JobType"), 70);
}
