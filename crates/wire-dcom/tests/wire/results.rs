//! Queries and enumerations, and the enumerators over their results; events.

use crate::shop::{ITEMS, NAMESPACE, Reply, Shop, named_arguments, query_arguments};
use dce_rpc::ndr::{Reader, Writer};
use dcom::HResult;
use uuid::Uuid;
use wire_dcom::{HoldingLimits, ids, status};
use wmi_object::Object;

const ALL: &str = "SELECT * FROM S_Item";
const FORWARD_ONLY: i32 = 0x30;

fn names(reply: &Reply) -> Vec<String> {
    let instances = reply.instances().into_iter();
    instances
        .map(|it| it.str("Name").unwrap().to_owned())
        .collect()
}

async fn skip(shop: &Shop, enumerator: Uuid, count: u32) -> HResult {
    let mut arguments = Writer::new();
    arguments.i32(-1).u32(count);
    let reply = shop.call(enumerator, 7, &arguments.into_bytes()).await;
    reply.unwrap().code()
}

#[tokio::test]
async fn results_are_taken_as_the_client_likes() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let items = shop.query(services, ALL, 0x10).await.unwrap();
    let first = shop.next(items, -1, 2).await;
    assert_eq!(first.code(), HResult::OK);
    assert_eq!(names(&first), ["S_Item 0", "S_Item 1"]);
    let copy = shop.call(items, 6, &[]).await.unwrap().ipid().unwrap();
    assert_eq!(skip(&shop, items, 297).await, HResult::OK);
    let rest = shop.next(items, 0, 5).await;
    assert_eq!(rest.code(), HResult::FALSE);
    assert_eq!(names(&rest), ["S_Item 299", "S_Rare 1"]);
    let end = shop.next(items, 0, 1).await;
    assert_eq!((end.code(), end.objects().len()), (HResult::FALSE, 0));
    assert_eq!(skip(&shop, items, 1).await, HResult::FALSE);
    // The copy goes on from where it was made, and the original begins again.
    assert_eq!(names(&shop.next(copy, -1, 1).await), ["S_Item 2"]);
    let reset = shop.call(items, 3, &[]).await.unwrap();
    assert_eq!(reset.code(), HResult::OK);
    assert_eq!(names(&shop.next(items, -1, 1).await), ["S_Item 0"]);
    let wrong = shop.next(items, -2, 1).await;
    assert_eq!(wrong.code(), status::INVALID_PARAMETER);
    let asynchronous = shop.call(items, 5, &[0; 8]).await.unwrap();
    assert_eq!(asynchronous.code(), HResult::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn forward_only_results_are_gone_through_once() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let items = shop.query(services, ALL, FORWARD_ONLY).await.unwrap();
    for opnum in [3, 6] {
        let again = shop.call(items, opnum, &[]).await.unwrap();
        assert_eq!(again.code(), status::INVALID_OPERATION);
    }
    let most = u32::try_from(ITEMS).unwrap();
    let all = shop.next(items, -1, most + 1).await;
    assert_eq!(all.code(), HResult::OK);
    assert_eq!(names(&all).len(), ITEMS + 1);
}

#[tokio::test]
async fn what_is_selected_comes_with_the_keys() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let wql = "SELECT Size, __PATH FROM S_Item WHERE Size = 4";
    let items = shop.query(services, wql, 0).await.unwrap();
    let item = shop.next(items, -1, 1).await.instances().remove(0);
    let properties = item.properties.iter().map(|it| it.name.as_str());
    assert_eq!(properties.collect::<Vec<_>>(), ["Name", "Size"]);
    assert_eq!(item.str("Name"), Some("S_Item 4"));
}

#[tokio::test]
async fn a_prototype_shows_what_would_be_selected() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let shape = shop.query(services, "SELECT Size FROM S_Item", 0x2).await;
    let reply = shop.next(shape.unwrap(), -1, 2).await;
    assert_eq!(reply.code(), HResult::FALSE);
    let Object::Class { class, .. } = reply.objects().remove(0).object else {
        panic!("no class");
    };
    assert_eq!(class.properties.len(), 1);
}

#[tokio::test]
async fn wrong_queries_have_their_codes() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    for (wql, code) in [
        ("SELEKT", status::INVALID_QUERY),
        ("SELECT * FROM S_None", status::INVALID_CLASS),
        ("SELECT None FROM S_Item", status::INVALID_QUERY),
        ("ASSOCIATORS OF {S_Item.Name='none'}", status::NOT_FOUND),
    ] {
        assert_eq!(shop.query(services, wql, 0).await, Err(code), "{wql}");
    }
}

#[tokio::test]
async fn classes_and_instances_are_enumerated_deep_and_shallow() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let count = async |opnum: u16, class: &str, flags: i32| {
        let arguments = named_arguments(class, flags).into_bytes();
        let reply = shop.call(services, opnum, &arguments).await.unwrap();
        let Some(enumerator) = reply.ipid() else {
            return Err(reply.code());
        };
        Ok(shop.next(enumerator, -1, 1000).await.objects().len())
    };
    assert_eq!(count(18, "S_Thing", 0).await, Ok(ITEMS + 2));
    assert_eq!(count(18, "S_Item", 1).await, Ok(ITEMS));
    assert_eq!(count(18, "S_None", 0).await, Err(status::INVALID_CLASS));
    assert_eq!(count(12, "", 1).await, Ok(1));
    assert_eq!(count(12, "S_Thing", 0).await, Ok(3));
    assert_eq!(count(12, "S_Thing", 1).await, Ok(2));
    assert_eq!(count(12, "S_None", 0).await, Err(status::INVALID_CLASS));
}

#[tokio::test]
async fn the_smart_form_sends_a_class_once() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let items = shop.query(services, ALL, 0).await.unwrap();
    let fetch = shop.interface(items, ids::FETCH_SMART).await.unwrap();
    let smart = shop.call(fetch, 3, &[]).await.unwrap().ipid().unwrap();
    let next = async |count: u32| {
        let mut arguments = Writer::new();
        arguments.uuid(Uuid::from_u128(1)).i32(-1).u32(count);
        let reply = shop.call(smart, 3, &arguments.into_bytes()).await.unwrap();
        let mut reader = Reader::new(&reply.0[8..]);
        let (objects, size) = (reader.u32().unwrap(), reader.u32().unwrap());
        (reply.code(), objects, size)
    };
    let (code, objects, with_class) = next(1).await;
    assert_eq!((code, objects), (HResult::OK, 1));
    let (_, _, without) = next(1).await;
    assert!(without < with_class, "{without} {with_class}");
    // Both forms take from the same results.
    assert_eq!(names(&shop.next(items, -1, 1).await), ["S_Item 2"]);
    let (code, objects, _) = next(1000).await;
    assert_eq!((code, objects), (HResult::FALSE, 298));
    assert_eq!(next(1).await, (HResult::FALSE, 0, 0));
}

#[tokio::test]
async fn what_waits_to_be_fetched_is_bounded_and_freed() {
    let shop = Shop::with_limits(HoldingLimits {
        bytes: 1 << 30,
        bytes_of_account: 400 << 10,
    });
    let services = shop.login(NAMESPACE).await.unwrap();
    let mut held = Vec::new();
    let refused = loop {
        match shop.query(services, ALL, 0).await {
            Ok(enumerator) => held.push(enumerator),
            Err(code) => break code,
        }
    };
    assert_eq!(refused, status::QUOTA_VIOLATION);
    assert!(!held.is_empty());
    // Another account has its own share.
    let other = shop.of("bob");
    let of_other = other.login(NAMESPACE).await.unwrap();
    assert!(other.query(of_other, ALL, 0).await.is_ok());
    // What is made as it is taken costs next to nothing, and what was given back nothing.
    let stream = shop.query(services, ALL, FORWARD_ONLY).await.unwrap();
    assert_eq!(names(&shop.next(stream, -1, 1).await), ["S_Item 0"]);
    for enumerator in held {
        shop.release(enumerator).await;
    }
    assert!(shop.query(services, ALL, 0).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn events_are_waited_for() {
    let shop = Shop::new();
    let services = shop.login(NAMESPACE).await.unwrap();
    let wql = "SELECT * FROM __InstanceCreationEvent WITHIN 1 \
               WHERE TargetInstance ISA 'S_Item' AND TargetInstance.Size > 3";
    let arguments = query_arguments(wql, FORWARD_ONLY);
    let reply = shop.call(services, 22, &arguments).await.unwrap();
    let events = reply.ipid().unwrap();
    let nothing = shop.next(events, 1000, 1).await;
    assert_eq!(nothing.code(), status::TIMED_OUT);
    shop.announce(3);
    shop.announce(4);
    let event = shop.next(events, -1, 1).await;
    assert_eq!(event.code(), HResult::OK);
    let event = event.instances().remove(0);
    assert!(event.class.is("__InstanceCreationEvent"));
    let target = event.value("TargetInstance").as_instance().unwrap();
    assert_eq!(target.value("Size").as_u32(), Some(4));
    // A part of what was asked for comes when the time is over.
    shop.announce(5);
    let some = shop.next(events, 1000, 2).await;
    assert_eq!((some.code(), some.objects().len()), (status::TIMED_OUT, 1));
    // What came too fast is lost, and that is told once.
    (10..30).for_each(|at| shop.announce(at));
    let lost = shop.next(events, -1, 1).await;
    assert_eq!(lost.code(), status::QUOTA_VIOLATION);
    assert_eq!(shop.next(events, -1, 1).await.code(), HResult::OK);
    let broad = query_arguments("SELECT * FROM __InstanceCreationEvent", 0x30);
    let refused = shop.call(services, 22, &broad).await.unwrap();
    assert_eq!(refused.code(), status::INVALID_QUERY);
}
