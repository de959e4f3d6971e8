//! Activation by every door.

use crate::service::{
    ACTIVATOR, CLSID, ICOUNTER, INAME, IUNHEARD, Service, activate, activation_stub, add,
    arguments, references_in, result_of,
};
use dce_rpc::client::{Client, ClientError};
use dce_rpc::{Fault, SyntaxId};
use dcom::HResult;
use tokio::net::TcpStream;
use uuid::{Uuid, uuid};

const ICLASSFACTORY: Uuid = uuid!("00000001-0000-0000-c000-000000000046");

#[tokio::test]
async fn an_object_is_activated_and_called() {
    let service = Service::start().await;
    let (mut client, counter) = service.counter().await;
    assert_eq!(counter.references, 1);
    assert_eq!(add(&mut client, counter.ipid, 3).await.unwrap(), 3);
    assert_eq!(add(&mut client, counter.ipid, 4).await.unwrap(), 7);
}

#[tokio::test]
async fn interfaces_are_given_as_far_as_they_are_there() {
    let service = Service::start().await;
    let mut resolver = service.resolver(Some("alice")).await;
    let wanted = [IUNHEARD, ICOUNTER, INAME];
    let (result, references) = activate(&mut resolver, CLSID, &wanted).await;
    assert_eq!((result, references.len()), (HResult::OK, 2));
    assert_eq!(references[0].oid, references[1].oid);
    assert_ne!(references[0].ipid, references[1].ipid);

    let (result, references) = activate(&mut resolver, CLSID, &[IUNHEARD]).await;
    assert_eq!((result, references.len()), (HResult::NO_INTERFACE, 0));
    let (result, references) = activate(&mut resolver, IUNHEARD, &[ICOUNTER]).await;
    assert_eq!(
        (result, references.len()),
        (HResult::CLASS_NOT_REGISTERED, 0)
    );
    let (result, references) = activate(&mut resolver, CLSID, &[]).await;
    assert_eq!((result, references.len()), (HResult::INVALID_ARGUMENT, 0));
    assert_eq!(service.exporter.usage().objects, 1);
}

#[tokio::test]
async fn a_class_object_makes_instances() {
    let service = Service::start().await;
    let mut resolver = service.resolver(Some("alice")).await;
    let stub = activation_stub(CLSID, &[ICLASSFACTORY], true);
    let result = resolver.call(1, None, 3, &stub).await.unwrap();
    assert_eq!(result_of(&result), HResult::OK);
    let factory = references_in(&result)[0];
    assert_eq!(*service.alive.borrow(), 0);

    let mut client = service.objects("alice").await;
    let mut stub = arguments();
    stub.uuid(ICOUNTER);
    let result = client
        .call(0, Some(factory.ipid), 3, &stub.into_bytes())
        .await
        .unwrap();
    assert_eq!(result_of(&result), HResult::OK);
    let counter = references_in(&result)[0];
    assert_eq!(add(&mut client, counter.ipid, 3).await.unwrap(), 3);
    let mut stub = arguments();
    stub.uuid(IUNHEARD);
    let result = client
        .call(0, Some(factory.ipid), 3, &stub.into_bytes())
        .await
        .unwrap();
    assert_eq!(result_of(&result), HResult::NO_INTERFACE);
    assert_eq!(*service.alive.borrow(), 1);
}

#[tokio::test]
async fn old_clients_activate_as_well() {
    let service = Service::start().await;
    let mut resolver = service.resolver(Some("alice")).await;
    let mut client = service.objects("alice").await;
    for (class, wanted, expected) in [
        (CLSID, &[ICOUNTER, IUNHEARD][..], 1),
        (IUNHEARD, &[ICOUNTER], 0),
    ] {
        let mut stub = arguments();
        stub.uuid(class).null().null().u32(2).u32(0);
        stub.count(wanted.len()).pointer().count(wanted.len());
        for interface in wanted {
            stub.uuid(*interface);
        }
        stub.u16(1).u32(1).u16(7);
        let result = resolver.call(2, None, 0, &stub.into_bytes()).await.unwrap();
        assert_eq!(result_of(&result), HResult::OK);
        let references = references_in(&result);
        assert_eq!(references.len(), expected);
        for reference in references {
            assert_eq!(add(&mut client, reference.ipid, 1).await.unwrap(), 1);
        }
    }
}

#[tokio::test]
async fn nobody_activates_without_a_logon() {
    let service = Service::start().await;
    let mut stranger = service.resolver(None).await;
    let stub = activation_stub(CLSID, &[ICOUNTER], false);
    let refused = stranger.call(1, None, 4, &stub).await;
    assert!(matches!(
        refused,
        Err(ClientError::Fault(Fault::ACCESS_DENIED))
    ));
    assert_eq!(*service.alive.borrow(), 0);
    // Nor is an activator to be found among the objects.
    let mut client = Client::new(TcpStream::connect(service.objects).await.unwrap());
    let answers = client
        .bind(&[SyntaxId::new(ACTIVATOR, 0)], None)
        .await
        .unwrap();
    assert_ne!(answers[0].result, 0);
}
