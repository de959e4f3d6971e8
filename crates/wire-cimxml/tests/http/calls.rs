//! The operations, by our own client.

use crate::model::{NAMESPACE, STOCK};
use crate::support::{Shop, shop};
use cim::{CimStatus, CimType, Instance, Name, Namespace, ObjectPath, Property, Type, Value};
use cim_broker::{AssociatorFilter, ReferenceFilter};
use http_server::HttpLimits;
use wire_cimxml::{Client, ClientError, QueryAnswer, Trust};

async fn client(shop: &Shop) -> Client {
    let url = format!("http://{}", shop.address);
    Client::connect(&url, "reader", "secret", Trust::Nobody)
        .await
        .expect("connects")
}

fn namespace() -> Namespace {
    Namespace::new(NAMESPACE)
}

fn name(text: &str) -> Name {
    Name::new(text)
}

fn status(error: ClientError) -> CimStatus {
    match error {
        ClientError::Cim(error) => error.status,
        other => panic!("not a CIM error: {other}"),
    }
}

#[tokio::test]
async fn instances_read_one_by_one_equal_those_enumerated() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let thing = name("Shop_Thing");
    let all = client
        .enumerate_instances(&namespace(), &thing, None)
        .await
        .unwrap();
    let paths = client
        .enumerate_instance_names(&namespace(), &thing)
        .await
        .unwrap();
    assert_eq!(all.len(), STOCK + 4);
    assert_eq!(paths.len(), all.len());
    for (instance, path) in all.iter().zip(&paths) {
        let again = client.get_instance(&namespace(), path, None).await.unwrap();
        assert_eq!(again, *instance);
    }
    let odd = &all[1];
    assert_eq!(odd.str("Id"), Some(r#"b<2>&"\'é"#));
    assert_eq!(odd.get("Pages"), Some(&Value::Null));
}

#[tokio::test]
async fn every_type_arrives() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let path = ObjectPath::of_instance("Shop_Book", [("Id", "b1")]);
    let book = client
        .get_instance(&namespace(), &path, None)
        .await
        .unwrap();
    assert_eq!(book.get("Pages"), Some(&Value::Uint16(321)));
    assert_eq!(book.get("InPrint"), Some(&Value::Boolean(true)));
    assert_eq!(book.get("Price"), Some(&Value::Real64(12.5)));
    assert_eq!(book.get("Sold"), Some(&Value::Uint64(u64::MAX)));
    assert_eq!(book.get("Shelfmark"), Some(&Value::Char16(u16::from(b'Q'))));
    assert_eq!(
        book.get("Keywords"),
        Some(&Value::from(vec!["x", "", "<y>"]))
    );
    let Some(Value::DateTime(bought)) = book.get("Bought") else {
        panic!("no datetime: {book:?}");
    };
    assert_eq!(bought.to_string(), "20120229134501.123456+060");
    let best = book.get("BestReview").and_then(Value::as_instance).unwrap();
    assert_eq!(best.str("Author"), Some("Best"));
    let reviews = book.get("Reviews").and_then(Value::as_array).unwrap();
    assert_eq!(reviews.len(), 2);
    assert_eq!(
        reviews[0].as_instance().unwrap().str("Author"),
        Some("A <b> & \"c\"")
    );
}

#[tokio::test]
async fn associations_are_followed_both_ways() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let shelf = ObjectPath::of_instance("Shop_Shelf", [("Id", "s1")]);
    let any = AssociatorFilter::default();
    let books = client
        .associators(&namespace(), &shelf, &any, None)
        .await
        .unwrap();
    let paths = client
        .associator_names(&namespace(), &shelf, &any)
        .await
        .unwrap();
    let found: Vec<_> = books.iter().filter_map(|book| book.path.clone()).collect();
    assert_eq!(found, paths);
    assert_eq!(paths.len(), 3);
    let links = client
        .references(&namespace(), &shelf, &ReferenceFilter::default(), None)
        .await
        .unwrap();
    assert_eq!(links.len(), 3);
    // A reference is the same path whether it is read as a property or as a key.
    for link in &links {
        let again = client
            .get_instance(&namespace(), link.path.as_ref().unwrap(), None)
            .await
            .unwrap();
        assert_eq!(again.properties, link.properties);
        let book = link.get("Book").and_then(Value::as_reference).unwrap();
        assert!(book.host.is_none());
        let back = client
            .associator_names(&namespace(), book, &any)
            .await
            .unwrap();
        assert_eq!(back[0].key_str("Id"), Some("s1"));
    }
    let wrong = AssociatorFilter {
        assoc_class: Some(name("Nope")),
        ..AssociatorFilter::default()
    };
    let error = client.associator_names(&namespace(), &shelf, &wrong).await;
    assert_eq!(status(error.unwrap_err()), CimStatus::InvalidParameter);
}

#[tokio::test]
async fn queries_find_instances() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let query = "SELECT * FROM Shop_Book WHERE Id = 'b1'";
    let found = client.exec_query(&namespace(), query).await.unwrap();
    let QueryAnswer::Instances(found) = found else {
        panic!("not instances: {found:?}");
    };
    assert_eq!(found.len(), 1);
    let path = found[0].path.as_ref().expect("a path to go on with");
    assert_eq!(path.host.as_deref(), Some("shop.example"));
    assert!(client.get_instance(&namespace(), path, None).await.is_ok());
}

#[tokio::test]
async fn classes_and_qualifiers_are_served() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let clerk = client
        .get_class(&namespace(), &name("shop_CLERK"))
        .await
        .unwrap();
    assert_eq!(clerk.name.as_str(), "Shop_Clerk");
    let order = clerk.method("Order").unwrap();
    let books = order.parameter("Books").unwrap();
    assert_eq!(books.ty, Type::array(CimType::String));
    assert_eq!(books.class_ref, Some(name("Shop_Book")));
    assert!(books.is_in() && !books.is_out());
    let shelf = order.parameter("Shelf").unwrap();
    assert_eq!(
        (shelf.ty.kind, &shelf.class_ref),
        (CimType::Reference, &Some(name("Shop_Shelf")))
    );
    let comic = client
        .get_class(&namespace(), &name("Shop_Comic"))
        .await
        .unwrap();
    assert_eq!(comic.superclass, Some(name("Shop_Book")));
    assert_eq!(comic.property("Title").unwrap().origin, name("Shop_Thing"));
    assert!(comic.property("Id").unwrap().is_key());
    let thing = name("Shop_Thing");
    let names = client
        .enumerate_class_names(&namespace(), Some(&thing), true)
        .await
        .unwrap();
    assert_eq!(names.len(), 3);
    let top = client
        .enumerate_classes(&namespace(), None, false)
        .await
        .unwrap();
    assert!(top.iter().all(|class| class.superclass.is_none()));
    let key = client
        .get_qualifier(&namespace(), &name("key"))
        .await
        .unwrap();
    assert_eq!(key.ty.kind, CimType::Boolean);
    assert!(
        !client
            .enumerate_qualifiers(&namespace())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn methods_take_and_give_everything() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let clerk = ObjectPath::of_instance("Shop_Clerk", [("Name", "Bob")]);
    let wanted = |id: &str| Instance {
        class: name("Shop_Book"),
        path: None,
        properties: vec![Property {
            name: name("Id"),
            ty: Type::scalar(CimType::String),
            value: id.into(),
            origin: None,
        }],
    };
    let shelf =
        ObjectPath::of_instance("Shop_Shelf", [("Id", "s1")]).located("other.name", namespace());
    let text = cim_xml::embedded::write_instance(&wanted("n<2>"));
    let arguments = vec![
        (name("Shelf"), Value::from(shelf)),
        (
            name("Books"),
            Value::Array(vec![wanted("n1").into(), text.into()]),
        ),
        (name("copies"), Value::String("3".to_owned())),
        (name("Note"), "héy <&>".into()),
        (name("By"), Value::Null),
    ];
    let answer = client
        .invoke_method(&namespace(), &clerk, &name("Order"), arguments)
        .await
        .unwrap();
    assert_eq!(answer.return_value, Value::Uint32(4096));
    assert_eq!(answer.get("Count"), &Value::Uint64(6));
    assert_eq!(answer.get("note"), &Value::from("HÉY <&>"));
    assert_eq!(answer.get("Nothing"), &Value::Null);
    assert_eq!(
        answer.get("Review").as_instance().unwrap().get("Stars"),
        Some(&Value::Uint8(3))
    );
    let ordered = answer.get("Ordered").as_array().unwrap();
    assert_eq!(
        ordered[1].as_reference().unwrap().key_str("Id"),
        Some("n<2>")
    );
    let placed = answer.get("PlacedOn").as_reference().unwrap();
    assert_eq!(placed.namespace, Some(namespace()));

    let class = ObjectPath::of_class("Shop_Clerk");
    let motto = client
        .invoke_method(&namespace(), &class, &name("Motto"), vec![])
        .await
        .unwrap();
    assert_eq!(motto.return_value, Value::from("Read <more>"));
    for (method, argument, wanted) in [
        ("Break", None, CimStatus::Failed),
        ("Nope", None, CimStatus::MethodNotFound),
        ("Motto", Some("X"), CimStatus::InvalidParameter),
    ] {
        let arguments = argument
            .map(|a| (name(a), Value::Uint8(1)))
            .into_iter()
            .collect();
        let target = if method == "Motto" { &class } else { &clerk };
        let error = client
            .invoke_method(&namespace(), target, &name(method), arguments)
            .await;
        assert_eq!(status(error.unwrap_err()), wanted, "{method}");
    }
    let twice = vec![(name("Note"), "1".into()), (name("NOTE"), "2".into())];
    let error = client
        .invoke_method(&namespace(), &clerk, &name("Order"), twice)
        .await;
    assert_eq!(status(error.unwrap_err()), CimStatus::InvalidParameter);
}

#[tokio::test]
async fn errors_are_told_apart() {
    let shop = shop(HttpLimits::default()).await;
    let url = format!("http://{}", shop.address);
    let wrong = Client::connect(&url, "reader", "wrong", Trust::Nobody)
        .await
        .unwrap();
    let error = wrong.enumerate_qualifiers(&namespace()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unauthorized), "{error:?}");
    let client = client(&shop).await;
    let missing = ObjectPath::of_instance("Shop_Book", [("Id", "zz")]);
    let error = client
        .get_instance(&namespace(), &missing, None)
        .await
        .unwrap_err();
    assert_eq!(status(error), CimStatus::NotFound);
    let nowhere = Namespace::new("root/nowhere");
    let error = client.enumerate_qualifiers(&nowhere).await.unwrap_err();
    assert_eq!(status(error), CimStatus::InvalidNamespace);
    shop.server
        .shutdown(std::time::Duration::from_secs(5))
        .await;
    let error = client.enumerate_qualifiers(&namespace()).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error:?}");
    for url in ["", "ftp://x", "http://a:b@x", "x"] {
        let refused = Client::connect(url, "u", "p", Trust::Nobody).await;
        assert!(matches!(refused, Err(ClientError::Url { .. })), "{url}");
    }
}

#[tokio::test]
async fn long_answers_come_whole() {
    let shop = shop(HttpLimits::default()).await;
    let client = client(&shop).await;
    let clerk = ObjectPath::of_instance("Shop_Clerk", [("Name", "Bob")]);
    // In capitals this letter is one and a half times as long: more than goes out in one piece.
    let note = "\u{149}".repeat(1_600_000);
    let arguments = vec![(name("Note"), note.as_str().into())];
    let answer = client
        .invoke_method(&namespace(), &clerk, &name("Order"), arguments)
        .await
        .unwrap();
    assert_eq!(
        answer.get("Note").as_str(),
        Some(note.to_uppercase().as_str())
    );
}
