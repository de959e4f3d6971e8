//! What callers without rights see.

use crate::fixture::{Fixture, SERVICE, caller, reference};
use cim::Name;
use cim_broker::Role;

#[tokio::test]
async fn without_rights_everything_is_empty() {
    let fixture = Fixture::new().await;
    let machine = fixture.define("web01").await;
    for class in [
        SERVICE,
        "Msvm_ComputerSystem",
        "Msvm_VirtualSystemSettingData",
    ] {
        let seen = fixture
            .broker
            .enumerate_instances(
                &caller(Role::None),
                &fixture.namespace,
                &Name::new(class),
                true,
                None,
            )
            .expect("an empty list, not an error");
        assert_eq!(seen, [], "{class}");
    }
    let target = fixture.service();
    let system = [("SourceSystem", reference(&machine))];
    for role in [Role::None, Role::Viewer] {
        let answer = fixture
            .call_as(role, &target, "CreateVirtualSystemSnapshot", &system)
            .await;
        assert_eq!(answer.code, 32769, "{role:?}");
        assert!(answer.out("Job").is_null());
    }
    let destroy = [("ComputerSystem", reference(&machine))];
    let answer = fixture
        .call_as(Role::Operator, &target, "DestroyVirtualSystem", &destroy)
        .await;
    assert_eq!(answer.code, 32769);
    assert_eq!(fixture.machines.all().len(), 1);
}
