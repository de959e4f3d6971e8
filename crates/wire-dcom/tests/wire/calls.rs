//! Method calls, calls that are answered before they are done, and operations that are not served.

use crate::shop::{NAMESPACE, Reply, Shop, bstr, get_arguments, method_arguments, named_arguments};
use cim::{CimType, Class, Instance, Name, ObjectPath, Property, PropertyDecl, Type, Value};
use dce_rpc::Fault;
use dce_rpc::ndr::{Reader, Writer};
use dcom::HResult;
use uuid::Uuid;
use wire_dcom::status;
use wmi_object::{ClassLayout, Lineage, NoClasses, encode_instance, objref};

const COUNTER: &str = "S_Counter.Name=\"main\"";

/// Parameters as a client sends them: an instance of a class that it was given.
fn parameters(values: Vec<(&str, Type, Value)>) -> Vec<u8> {
    let mut class = Class::new("__PARAMETERS");
    let mut instance = Instance {
        class: Name::new("__PARAMETERS"),
        path: None,
        properties: Vec::new(),
    };
    for (name, ty, value) in values {
        let decl = PropertyDecl::new(name, ty, "__PARAMETERS");
        class.properties.push(decl);
        instance.properties.push(Property {
            name: Name::new(name),
            ty,
            value,
            origin: None,
        });
    }
    let layout = ClassLayout::new(&Lineage::root(&class)).unwrap();
    objref(&encode_instance(&layout, &instance, None, &NoClasses).unwrap())
}

async fn order(shop: &Shop, services: Uuid, parameters: Option<&[u8]>) -> Reply {
    let arguments = method_arguments(COUNTER, "order", 0, parameters, false);
    shop.call(services, 24, &arguments).await.unwrap()
}

#[tokio::test]
async fn a_method_takes_and_gives_values_of_all_kinds() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let item = "\\\\elsewhere\\root\\shop:S_Item.Name=\"S_Item 9\"";
    let counts = Type {
        kind: CimType::Uint16,
        array: true,
    };
    let given = parameters(vec![
        (
            "Item",
            Type::scalar(CimType::Reference),
            Value::from(ObjectPath::parse(item).unwrap()),
        ),
        (
            "Counts",
            counts,
            Value::Array(vec![Value::Uint16(1), Value::Uint16(2)]),
        ),
        (
            "Urgent",
            Type::scalar(CimType::Boolean),
            Value::Boolean(true),
        ),
    ]);
    let reply = order(&shop, services, Some(&given)).await;
    assert_eq!(reply.code(), HResult::OK);
    let out = reply.instances().remove(0);
    assert!(out.class.is("__PARAMETERS"));
    assert_eq!(out.value("ReturnValue").as_u32(), Some(4096));
    let sold = out.value("Sold").as_reference().unwrap();
    assert_eq!(
        sold.to_string(),
        "\\\\HOST\\root\\shop:S_Item.Name=\"S_Item 9\""
    );
    assert!(out.value("Parcel").is_null());
    let echo = format!("{:?}", out.value("Echo"));
    assert!(echo.contains("Urgent=Boolean(true)") && echo.contains("Uint16(2)"));
}

#[tokio::test]
async fn an_instance_that_was_fetched_can_be_a_parameter() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let item = get_arguments("S_Counter.Name=\"main\"", 0, false);
    let item = shop.call(services, 6, &item).await.unwrap();
    let item = item.instances().remove(0);
    let mut class = Class::new("S_Counter");
    class.properties = ["Caption", "Name"]
        .map(|name| PropertyDecl::new(name, Type::scalar(CimType::String), "S_Counter"))
        .to_vec();
    struct One(Class);
    impl wmi_object::ClassSource for One {
        fn lineage(&self, _: &Name) -> Option<Lineage<'_>> {
            Some(Lineage::root(&self.0))
        }
    }
    let mut holder = Class::new("__PARAMETERS");
    let object = Type::scalar(CimType::Object);
    holder
        .properties
        .push(PropertyDecl::new("Wrapping", object, "__PARAMETERS"));
    let mut given = Instance::of_class(&holder);
    given.set("Wrapping", Value::from(item)).unwrap();
    let layout = ClassLayout::new(&Lineage::root(&holder)).unwrap();
    let block = encode_instance(&layout, &given, None, &One(class)).unwrap();
    let reply = order(&shop, services, Some(&objref(&block))).await;
    assert_eq!(reply.code(), HResult::OK);
    let out = reply.instances().remove(0);
    let parcel = out.value("Parcel").as_instance().unwrap();
    assert_eq!(parcel.str("Name"), Some("main"));
}

#[tokio::test]
async fn calls_that_cannot_be_made_have_their_codes() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let wrong_type = parameters(vec![(
        "Urgent",
        Type::scalar(CimType::String),
        Value::from("perhaps"),
    )]);
    let unknown = parameters(vec![(
        "None",
        Type::scalar(CimType::Uint8),
        Value::Uint8(1),
    )]);
    for given in [&wrong_type, &unknown, &b"no reference".to_vec()] {
        let reply = order(&shop, services, Some(given)).await;
        assert_eq!(reply.code(), status::INVALID_METHOD_PARAMETERS);
    }
    for (path, method, code) in [
        (COUNTER, "None", status::INVALID_METHOD),
        ("S_Counter.Name=\"none\"", "Wait", status::NOT_FOUND),
        ("S_Counter", "Wait", status::INVALID_PARAMETER),
        ("S_None=@", "Wait", status::INVALID_CLASS),
        ("", "Wait", status::INVALID_OBJECT_PATH),
    ] {
        let arguments = method_arguments(path, method, 0, None, false);
        let reply = shop.call(services, 24, &arguments).await.unwrap();
        assert_eq!(reply.code(), code, "{path} {method}");
    }
    let viewer = shop.of("viewer");
    let services = viewer.login(NAMESPACE).await.unwrap();
    let denied = order(&viewer, services, None).await;
    assert_eq!(denied.code(), status::ACCESS_DENIED);
    // An object belongs to who got it.
    let stranger = shop.of("bob").call(services, 6, &[]).await.err();
    assert_eq!(stranger, Some(Fault::ACCESS_DENIED));
}

/// `GetCallStatus`: what the operation itself gives, and what it tells.
async fn status_of(shop: &Shop, call: Uuid, timeout: i32) -> (HResult, HResult) {
    let mut arguments = Writer::new();
    arguments.i32(timeout);
    let reply = shop.call(call, 6, &arguments.into_bytes()).await.unwrap();
    let told = Reader::new(&reply.0[8..]).u32().unwrap();
    (reply.code(), HResult(told))
}

#[tokio::test]
async fn a_call_can_go_on_after_it_was_answered() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let arguments = method_arguments(COUNTER, "Wait", 0x10, None, true);
    let reply = shop.call(services, 24, &arguments).await.unwrap();
    assert_eq!(reply.code(), HResult::OK);
    assert!(reply.objects().is_empty());
    let call = reply.ipid().unwrap();
    assert_eq!(
        status_of(&shop, call, 0).await,
        (status::TIMED_OUT, HResult::OK)
    );
    shop.open();
    assert_eq!(status_of(&shop, call, -1).await, (HResult::OK, HResult::OK));
    let ask = async |opnum: u16| {
        let reply = shop.call(call, opnum, &[0xff; 4]).await;
        reply.unwrap()
    };
    let result = ask(3).await.instances().remove(0);
    assert_eq!(result.value("ReturnValue").as_u32(), Some(7));
    for opnum in [4, 5] {
        assert_eq!(ask(opnum).await.code(), status::INVALID_OPERATION);
    }
    let failing = get_arguments("S_None", 0x10, true);
    let reply = shop.call(services, 6, &failing).await.unwrap();
    let call = reply.ipid().unwrap();
    let told = status_of(&shop, call, -1).await;
    assert_eq!(told, (HResult::OK, status::NOT_FOUND));
    let result = shop.call(call, 3, &[0xff; 4]).await.unwrap();
    assert_eq!(result.code(), status::NOT_FOUND);
}

#[tokio::test]
async fn what_is_not_served_says_so_in_its_own_form() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    for opnum in [4, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25] {
        let reply = shop.call(services, opnum, &[0; 64]).await.unwrap();
        assert_eq!(reply.code(), HResult::NOT_IMPLEMENTED, "{opnum}");
    }
    for opnum in [10, 16] {
        let mut arguments = named_arguments("S_Item", 0);
        arguments.null();
        let reply = shop.call(services, opnum, &arguments.into_bytes()).await;
        assert_eq!(reply.unwrap().code(), status::NOT_SUPPORTED);
    }
    for opnum in [8, 14] {
        let reply = shop.call(services, opnum, &[0; 16]).await.unwrap();
        assert_eq!(reply.code(), status::NOT_SUPPORTED);
    }
    let unknown = shop.call(services, 26, &[]).await.err();
    assert_eq!(unknown, Some(Fault::OPERATION_RANGE));
    let mut cut = Writer::new();
    bstr(&mut cut, "WQL");
    let cut = shop.call(services, 20, &cut.into_bytes()).await.err();
    assert_eq!(cut, Some(Fault::BAD_STUB_DATA));
}
