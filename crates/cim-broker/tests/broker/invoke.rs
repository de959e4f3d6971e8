//! Method calls.

use crate::fleet::{World, account, administrator, machine_id, path, world};
use cim::{CimError, CimStatus, CimType, Instance, Name, ObjectPath, Property, Type, Value};
use cim_broker::{Arguments, InvokeResult, Role};
use std::sync::Arc;
use std::sync::atomic::Ordering;

const SERVICE: &str = r#"T_Service.CreationClassName="T_Service""#;

async fn call(
    world: &World,
    target: &str,
    method: &str,
    arguments: Vec<(&str, Value)>,
) -> Result<InvokeResult, CimError> {
    let arguments = arguments
        .into_iter()
        .map(|(name, value)| (Name::new(name), value))
        .collect();
    world
        .broker
        .invoke(
            &administrator(),
            &world.namespace,
            &path(target),
            &Name::new(method),
            arguments,
        )
        .await
}

/// What the provider received from a call of `Create` that must succeed.
async fn received(world: &World, arguments: Vec<(&str, Value)>) -> Arguments {
    let mut arguments = arguments;
    if !arguments
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("Label"))
    {
        arguments.push(("Label", "x".into()));
    }
    let result = call(world, SERVICE, "Create", arguments).await.unwrap();
    assert_eq!(result.return_value.1, Value::Uint32(4096));
    world.fleet.received.lock().unwrap().take().unwrap()
}

async fn refused(world: &World, arguments: Vec<(&str, Value)>) -> CimError {
    call(world, SERVICE, "Create", arguments).await.unwrap_err()
}

#[tokio::test]
async fn arguments_arrive_in_declared_types_and_order() {
    let world = world(1, 0);
    let arguments = received(
        &world,
        vec![
            ("force", "TRUE".into()),
            ("COUNT", "12".into()),
            ("label", Value::Uint32(7)),
        ],
    )
    .await;
    let names: Vec<&str> = arguments
        .values
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        names,
        ["Target", "Settings", "Label", "Count", "Force", "Result"]
    );
    assert_eq!(arguments.get("Count"), &Value::Uint16(12));
    assert_eq!(arguments.get("Force"), &Value::Boolean(true));
    assert_eq!(arguments.get("Label"), &Value::from("7"));
    assert_eq!(arguments.get("Target"), &Value::Null);
}

#[tokio::test]
async fn wrong_names_types_and_missing_values_are_told() {
    let world = world(1, 0);
    let label = || ("Label", Value::from("x"));
    let error = refused(&world, vec![label(), ("Colour", "red".into())]).await;
    assert_eq!(error.status, CimStatus::InvalidParameter);
    assert!(
        error.message.contains("Colour") && error.message.contains("Force"),
        "{error}"
    );
    let error = refused(&world, vec![label(), ("LABEL", "y".into())]).await;
    assert_eq!(error.status, CimStatus::InvalidParameter);
    let error = refused(&world, vec![label(), ("Echo", "y".into())]).await;
    assert_eq!(error.status, CimStatus::InvalidParameter);
    let error = refused(&world, vec![("Label", Value::Null)]).await;
    assert_eq!(error.status, CimStatus::InvalidParameter);
    assert!(error.message.contains("Label"), "{error}");
    for wrong in [
        Value::from("many"),
        Value::from("70000"),
        Value::from([1_u16, 2]),
        Value::from(Instance {
            class: Name::new("T_Slot"),
            path: None,
            properties: vec![],
        }),
    ] {
        let error = refused(&world, vec![label(), ("Count", wrong)]).await;
        assert_eq!(error.status, CimStatus::TypeMismatch, "{error}");
        assert!(
            error.message.contains("Count") && error.message.contains("uint16"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn references_become_canonical_when_they_name_something() {
    let world = world(2, 0);
    let id = machine_id(1);
    let canonical =
        format!(r#"\\HV1\root\fleet:T_Machine.CreationClassName="T_Machine",Name="{id}""#);
    for spelling in [
        canonical.clone(),
        format!(r#"T_System.Name="{}""#, id.to_lowercase()),
        format!(r#"//./root/fleet:T_Machine.CreationClassName='T_Machine',Name='{id}'"#),
    ] {
        for value in [Value::from(spelling.as_str()), Value::from(path(&spelling))] {
            let arguments = received(&world, vec![("Target", value)]).await;
            let target = arguments.get("Target").as_reference().unwrap();
            assert_eq!(target.to_string(), canonical, "{spelling}");
        }
    }
    // What names nothing, or is of another class, is the method's to judge.
    let nothing = path(r#"T_Machine.CreationClassName="T_Machine",Name="gone""#);
    let arguments = received(&world, vec![("Target", nothing.clone().into())]).await;
    assert_eq!(arguments.get("Target").as_reference(), Some(&nothing));
    let arguments = received(&world, vec![("Target", path("T_Slot=1").into())]).await;
    assert!(
        arguments
            .get("Target")
            .as_reference()
            .unwrap()
            .class
            .is("T_Slot")
    );
    let arguments = received(&world, vec![("Target", "not ! a path".into())]).await;
    assert_eq!(arguments.get("Target"), &Value::from("not ! a path"));
}

#[tokio::test]
async fn embedded_instances_are_read_from_xml_mof_and_values() {
    let world = world(1, 0);
    let xml = r#" <INSTANCE CLASSNAME="t_disksetting">
        <PROPERTY NAME="__PATH" CLASSORIGIN="___SYSTEM" TYPE="string"><VALUE>x</VALUE></PROPERTY>
        <PROPERTY NAME="resourcetype" TYPE="string"><VALUE>21</VALUE></PROPERTY>
        <PROPERTY NAME="ReadOnly" TYPE="boolean"><VALUE>TRUE</VALUE></PROPERTY>
        <PROPERTY NAME="Caption" PROPAGATED="true" TYPE="string"></PROPERTY>
        <PROPERTY.ARRAY NAME="Files" TYPE="string"><VALUE.ARRAY><VALUE>a.img</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>
        </INSTANCE> "#;
    let mof = r#"instance of T_DiskSetting { ResourceType = 21; ReadOnly = TRUE; Caption = NULL; Files = {"a.img"}; };"#;
    let property = |name: &str, value: Value| Property {
        name: Name::new(name),
        ty: Type::scalar(CimType::String),
        value,
        origin: None,
    };
    let value = Instance {
        class: Name::new("T_DiskSetting"),
        path: None,
        properties: vec![
            property("ResourceType", "21".into()),
            property("ReadOnly", "true".into()),
            property("Caption", Value::Null),
            property("Files", "a.img".into()),
        ],
    };
    for given in [Value::from(xml), Value::from(mof), Value::from(value)] {
        for given in [given.clone(), Value::Array(vec![given])] {
            let arguments = received(&world, vec![("Settings", given)]).await;
            let [Value::Instance(setting)] = arguments.get("Settings").as_array().unwrap() else {
                panic!("{arguments:?}");
            };
            assert_eq!(setting.class.as_str(), "T_DiskSetting");
            assert_eq!(setting.get("ResourceType"), Some(&Value::Uint16(21)));
            assert_eq!(setting.get("ReadOnly"), Some(&Value::Boolean(true)));
            assert_eq!(setting.get("Files"), Some(&Value::from(["a.img"])));
            assert_eq!(setting.get("Caption"), Some(&Value::Null));
            assert_eq!(setting.properties.len(), 4);
        }
    }
}

#[tokio::test]
async fn embedded_instances_nest_up_to_a_limit() {
    let world = world(1, 0);
    let nested = |depth: usize| {
        let mut text = String::from("instance of T_DiskSetting { ResourceType = 1; };");
        for _ in 0..depth {
            let inner = text.replace('\\', r"\\").replace('"', "\\\"");
            text = format!("instance of T_DiskSetting {{ Base = \"{inner}\"; }};");
        }
        Value::from(text)
    };
    let arguments = received(&world, vec![("Settings", nested(2))]).await;
    let outer = arguments.get("Settings").as_array().unwrap()[0]
        .as_instance()
        .unwrap();
    let inner = outer.value("Base").as_instance().unwrap();
    let innermost = inner.value("Base").as_instance().unwrap();
    assert_eq!(innermost.get("ResourceType"), Some(&Value::Uint16(1)));
    let result = call(
        &world,
        SERVICE,
        "Create",
        vec![("Label", "x".into()), ("Settings", nested(9))],
    )
    .await
    .unwrap();
    assert_eq!(result.return_value.1, Value::Uint32(32773));
}

#[tokio::test]
async fn unreadable_embedded_instances_are_the_providers_to_answer() {
    let world = world(1, 0);
    for text in [
        "<INSTANCE CLASSNAME=",
        "rubbish",
        r#"<INSTANCE CLASSNAME="T_Nothing"></INSTANCE>"#,
        r#"<INSTANCE CLASSNAME="T_Slot"></INSTANCE>"#,
        r#"<INSTANCE CLASSNAME="T_DiskSetting"><PROPERTY NAME="Colour" TYPE="string"><VALUE>x</VALUE></PROPERTY></INSTANCE>"#,
    ] {
        let result = call(
            &world,
            SERVICE,
            "Create",
            vec![("Label", "x".into()), ("Settings", text.into())],
        )
        .await
        .unwrap();
        assert_eq!(
            result.return_value,
            (Type::scalar(CimType::Uint32), Value::Uint32(32773)),
            "{text}"
        );
        assert_eq!(result.out.len(), 2);
        assert!(world.fleet.received.lock().unwrap().is_none());
    }
}

#[tokio::test]
async fn outputs_are_typed_complete_and_in_declared_order() {
    let world = world(1, 0);
    let machine: ObjectPath = path(&format!(r#"T_Machine.Name="{}""#, machine_id(0)));
    let result = call(
        &world,
        SERVICE,
        "create",
        vec![("Label", "x".into()), ("Target", machine.into())],
    )
    .await
    .unwrap();
    let [result_ref, echo] = result.out.as_slice() else {
        panic!("{result:?}");
    };
    assert_eq!(result_ref.name.as_str(), "Result");
    assert_eq!(
        result_ref.value.as_reference().unwrap().host.as_deref(),
        Some("HV1")
    );
    assert_eq!(
        (echo.ty, &echo.value),
        (Type::array(CimType::String), &Value::Null)
    );
    let error = call(&world, SERVICE, "Break", vec![]).await.unwrap_err();
    assert_eq!(error.status, CimStatus::Failed);
}

#[tokio::test]
async fn methods_and_targets_are_checked() {
    let world = world(1, 0);
    let status = async |target: &str, method: &str| {
        call(&world, target, method, vec![])
            .await
            .unwrap_err()
            .status
    };
    assert_eq!(status(SERVICE, "Nothing").await, CimStatus::MethodNotFound);
    assert_eq!(
        status(SERVICE, "Unserved").await,
        CimStatus::MethodNotAvailable
    );
    assert_eq!(
        status(r#"T_Service.Name="other""#, "Wait").await,
        CimStatus::NotFound
    );
    assert_eq!(
        status("T_Nothing.A=1", "Wait").await,
        CimStatus::InvalidClass
    );
    assert_eq!(
        status("T_Service", "Wait").await,
        CimStatus::InvalidParameter
    );
    assert_eq!(
        status(r"root\none:T_Service", "Ping").await,
        CimStatus::InvalidNamespace
    );
    let result = call(&world, "T_Service", "ping", vec![]).await.unwrap();
    assert_eq!(result.out[0].value, Value::from("here"));
}

#[tokio::test]
async fn access_is_decided_before_anything_is_looked_at() {
    let world = world(1, 0);
    let invoke = async |role: Role, target: &str, method: &str| {
        world
            .broker
            .invoke(
                &account("eve", role),
                &world.namespace,
                &path(target),
                &Name::new(method),
                vec![(Name::new("Colour"), Value::Null)],
            )
            .await
    };
    for target in [SERVICE, r#"T_Service.Name="other""#] {
        for role in [Role::None, Role::Viewer] {
            let denied = invoke(role, target, "Create").await.unwrap();
            assert_eq!(denied.return_value.1, Value::Uint32(32769));
            assert_eq!(denied.out.len(), 2);
        }
    }
    let error = invoke(Role::None, SERVICE, "Ping").await.unwrap_err();
    assert_eq!(error.status, CimStatus::AccessDenied);
}

#[tokio::test]
async fn a_call_runs_to_its_end_when_the_caller_goes_away() {
    let world = Arc::new(world(1, 0));
    let caller = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { call(&world, SERVICE, "Wait", vec![]).await })
    };
    world.fleet.entered.notified().await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(world.fleet.finished.load(Ordering::SeqCst), 0);
    world.fleet.gate.notify_one();
    world.fleet.entered.notified().await;
    assert_eq!(world.fleet.finished.load(Ordering::SeqCst), 1);
}
