//! Logins, and classes and instances by their paths.

use crate::shop::{NAMESPACE, Reply, Shop, get_arguments, login_arguments, named_arguments};
use dce_rpc::Fault;
use dcom::HResult;
use uuid::Uuid;
use wire_dcom::{ids, status};
use wmi_object::{Decoration, Object};

async fn get(shop: &Shop, services: Uuid, path: &str) -> Reply {
    let reply = shop.call(services, 6, &get_arguments(path, 0, false)).await;
    reply.unwrap()
}

#[tokio::test]
async fn a_login_leads_to_a_namespace_however_it_is_spelled() {
    let shop = Shop::new();
    for resource in ["//./root/shop", r"\\10.1.2.3\ROOT\Shop", "root/shop"] {
        assert!(shop.login(resource).await.is_ok(), "{resource}");
    }
    for resource in ["//./root/none", "", "//./root"] {
        assert_eq!(shop.login(resource).await, Err(status::INVALID_NAMESPACE));
    }
    let gone = shop.of("gone since");
    assert_eq!(gone.login(NAMESPACE).await, Err(status::ACCESS_DENIED));
}

#[tokio::test]
async fn the_other_operations_of_the_login_answer() {
    let shop = Shop::new();
    let login = shop.activate().await;
    let established = shop.call(login, 3, &[0; 8]).await.unwrap();
    assert_eq!(established.0, [0; 16]);
    let challenge = shop.call(login, 4, &[0; 8]).await.unwrap();
    assert_eq!(challenge.code(), HResult::NOT_IMPLEMENTED);
    let old = shop.call(login, 5, &[0; 16]).await.unwrap();
    assert_eq!(old.code(), HResult::NOT_IMPLEMENTED);
    let unknown = shop.call(login, 7, &[]).await.err();
    assert_eq!(unknown, Some(Fault::OPERATION_RANGE));
    let client = shop.interface(login, ids::LOGIN_CLIENT_ID).await.unwrap();
    let told = shop.call(client, 3, &login_arguments("machine")).await;
    assert_eq!(told.unwrap().code(), HResult::OK);
}

#[tokio::test]
async fn namespaces_open_from_where_one_is() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let open = async |name: &str| {
        let mut arguments = named_arguments(name, 0);
        arguments.pointer().null().null();
        let reply = shop.call(services, 3, &arguments.into_bytes()).await;
        reply.unwrap()
    };
    for name in ["back", "root\\shop\\back"] {
        let back = open(name).await.ipid().unwrap();
        let missing = get(&shop, back, "S_Item").await;
        assert_eq!(missing.code(), status::NOT_FOUND);
        let elsewhere = get(&shop, back, "root\\shop:S_Item").await;
        assert_eq!(elsewhere.code(), HResult::OK);
    }
    assert_eq!(open("front").await.code(), status::INVALID_NAMESPACE);
}

#[tokio::test]
async fn classes_come_with_methods_and_with_texts_only_if_wanted() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let class = async |path: &str, flags: i32| {
        let arguments = get_arguments(path, flags, false);
        let reply = shop.call(services, 6, &arguments).await.unwrap();
        match reply.objects().remove(0).object {
            Object::Class { class, ancestors } => (class, ancestors),
            Object::Instance(_) => panic!("an instance"),
        }
    };
    let (counter, ancestors) = class("s_counter", 0).await;
    assert_eq!(ancestors, ["S_Thing"]);
    let order = counter.method("Order").unwrap();
    let inputs: Vec<_> = order.inputs().map(|it| it.name.as_str()).collect();
    assert_eq!(inputs, ["Item", "Wrapping", "Counts", "Labels", "Urgent"]);
    let (plain, _) = class("S_Item", 0).await;
    assert!(plain.qualifier("Description").is_none());
    assert!(plain.property("Name").unwrap().is_key());
    let (amended, _) = class("S_Item", 0x2_0000).await;
    assert!(amended.qualifier("Description").is_some());
    let (event, ancestors) = class("__InstanceCreationEvent", 0).await;
    assert!(event.property("TargetInstance").is_some());
    assert_eq!(ancestors.len(), 4);
    // No name: a class that clients make others of.
    let empty = get(&shop, services, "").await;
    assert_eq!(empty.code(), HResult::OK);
}

#[tokio::test]
async fn instances_come_by_any_spelling_of_their_path() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    for path in [
        "S_Item.Name=\"S_Item 7\"",
        "\\\\somewhere\\root\\shop:s_item.NAME='S_Item 7'",
        "S_Item=\"S_Item 7\"",
        "S_Thing.Name=\"S_Item 7\"",
    ] {
        let reply = get(&shop, services, path).await;
        assert_eq!(reply.code(), HResult::OK, "{path}");
        let object = reply.objects().remove(0);
        let here = Decoration {
            server: "HOST".to_owned(),
            namespace: NAMESPACE.to_owned(),
        };
        assert_eq!(object.decoration, Some(here));
        let item = object.into_instance().unwrap();
        assert_eq!(item.value("Size").as_u32(), Some(7));
        let inside = item.value("Inside").as_instance().unwrap();
        assert_eq!(inside.str("Name"), Some("inside"));
    }
    for (path, code) in [
        ("S_Item.Name=\"none\"", status::NOT_FOUND),
        ("S_None", status::NOT_FOUND),
        ("S_Item.", status::INVALID_OBJECT_PATH),
        // Several objects fit.
        ("S_Item=@", status::INVALID_OBJECT_PATH),
        ("root\\none:S_Item", status::INVALID_NAMESPACE),
    ] {
        let reply = get(&shop, services, path).await;
        assert_eq!(reply.code(), code, "{path}");
        assert!(reply.objects().is_empty());
    }
}
