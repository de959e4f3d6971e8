//! Calls on objects, and `IRemUnknown`.

use crate::service::{
    ICOUNTER, INAME, IUNHEARD, Service, add, arguments, references_in, result_of,
};
use dce_rpc::Fault;
use dce_rpc::client::{Client, ClientError};
use dce_rpc::ndr::{Reader, Writer};
use dcom::objref::StandardReference;
use dcom::{HResult, ObjRef, bindings::Bindings, objref};
use tokio::net::TcpStream;
use uuid::Uuid;

type Calls = Client<TcpStream>;

async fn unknown(client: &mut Calls, ipid: Uuid, opnum: u16, stub: Writer) -> Vec<u8> {
    client
        .call(1, Some(ipid), opnum, &stub.into_bytes())
        .await
        .unwrap()
}

fn change(references: &[(Uuid, u32)]) -> Writer {
    let mut stub = arguments();
    stub.u16(u16::try_from(references.len()).unwrap());
    stub.count(references.len());
    for (ipid, count) in references {
        stub.uuid(*ipid).u32(*count).u32(0);
    }
    stub
}

fn fault<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Fault {
    match result {
        Err(ClientError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn references_decide_how_long_an_object_lives() {
    let service = Service::start().await;
    let mut alive = service.alive.clone();
    let (mut client, counter) = service.counter().await;
    let ipid = service.unknown(counter.oxid).await;
    let added = unknown(
        &mut client,
        ipid,
        4,
        change(&[(counter.ipid, 2), (ipid, 1)]),
    )
    .await;
    let mut results = Reader::new(&added[8..]);
    assert_eq!(results.u32(), Ok(2));
    assert_eq!(results.u32(), Ok(HResult::OK.0));
    assert_eq!(results.u32(), Ok(HResult::INVALID_ARGUMENT.0));
    for (fewer, left) in [(1, 1), (1, 1), (1, 0)] {
        let released = unknown(&mut client, ipid, 5, change(&[(counter.ipid, fewer)])).await;
        assert_eq!(result_of(&released), HResult::OK);
        assert_eq!(*alive.borrow_and_update(), left);
    }
    // Once more, and one that never was: clients do that.
    let nonsense = [(counter.ipid, 5), (Uuid::nil(), 5)];
    let released = unknown(&mut client, ipid, 5, change(&nonsense)).await;
    assert_eq!(result_of(&released), HResult::OK);
    assert_eq!(
        fault(add(&mut client, counter.ipid, 1).await),
        Fault(HResult::DISCONNECTED.0)
    );
    assert_eq!(service.exporter.usage(), dcom::Usage::default());
}

#[tokio::test]
async fn other_interfaces_are_asked_for_on_any_context() {
    let service = Service::start().await;
    let (mut client, counter) = service.counter().await;
    let ipid = service.unknown(counter.oxid).await;
    let mut stub = arguments();
    stub.uuid(counter.ipid).u32(1).u16(2).u32(2);
    stub.uuid(IUNHEARD).uuid(INAME);
    let stub = stub.into_bytes();
    // Context 0 was bound to the counter's interface.
    let results = client.call(0, Some(ipid), 3, &stub).await.unwrap();
    assert_eq!(result_of(&results), HResult::OK);
    let mut reader = Reader::new(&results);
    reader.bytes(8).unwrap();
    assert_eq!(reader.pointer(), Ok(true));
    assert_eq!(reader.u32(), Ok(2));
    assert_eq!(reader.u64(), Ok(HResult::NO_INTERFACE.0.into()));
    reader.bytes(40).unwrap();
    assert_eq!(reader.u64(), Ok(0));
    assert_eq!(reader.u32(), Ok(0));
    assert_eq!(reader.u32(), Ok(1));
    assert_eq!(reader.u64(), Ok(counter.oxid));
    assert_eq!(reader.u64(), Ok(counter.oid));
    let name = reader.uuid().unwrap();
    let results = client
        .call(0, Some(name), 3, &arguments().into_bytes())
        .await
        .unwrap();
    let mut reader = Reader::new(&results[8..]);
    assert_eq!(reader.pointer(), Ok(true));
    assert_eq!(reader.wide_string(20).as_deref(), Ok("alice/Privacy"));

    let mut stub = arguments();
    stub.uuid(counter.ipid).u16(2).u32(2);
    stub.uuid(IUNHEARD).uuid(INAME);
    let results = unknown(&mut client, ipid, 6, stub).await;
    assert_eq!(references_in(&results)[0].ipid, name);
}

#[tokio::test]
async fn objects_come_out_of_calls_and_go_back_into_them() {
    let service = Service::start().await;
    let (mut client, counter) = service.counter().await;
    let results = client
        .call(0, Some(counter.ipid), 4, &arguments().into_bytes())
        .await
        .unwrap();
    let other = references_in(&results)[0];
    assert_eq!(add(&mut client, other.ipid, 9).await.unwrap(), 9);
    assert_eq!(*service.alive.borrow(), 2);
    for (reference, same) in [(counter, 1), (other, 0), (StandardReference::NONE, 0)] {
        let mut stub = arguments();
        let reference = ObjRef::Standard {
            interface: ICOUNTER,
            reference,
            resolver: Bindings::new(["x"]),
        };
        objref::write_interface_pointer(&mut stub, Some(&reference.encode()));
        let results = client
            .call(0, Some(counter.ipid), 5, &stub.into_bytes())
            .await
            .unwrap();
        assert_eq!(Reader::new(&results[8..]).i32(), Ok(same));
    }
}

#[tokio::test]
async fn an_object_is_its_accounts_own() {
    let service = Service::start().await;
    let (_, counter) = service.counter().await;
    let ipid = service.unknown(counter.oxid).await;
    let mut bob = service.objects("bob").await;
    assert_eq!(
        fault(add(&mut bob, counter.ipid, 1).await),
        Fault::ACCESS_DENIED
    );
    unknown(&mut bob, ipid, 5, change(&[(counter.ipid, 5)])).await;
    let mut stub = arguments();
    stub.uuid(counter.ipid).u32(1).u16(1).u32(1).uuid(INAME);
    let results = unknown(&mut bob, ipid, 3, stub).await;
    let refused = Reader::new(&results[16..]).u32();
    assert_eq!(refused, Ok(HResult::INVALID_OBJREF.0));
    assert_eq!(*service.alive.borrow(), 1);
    let mut alice = service.objects("alice").await;
    assert_eq!(add(&mut alice, counter.ipid, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn operations_that_are_not_there_are_told_apart() {
    let service = Service::start().await;
    let (mut client, counter) = service.counter().await;
    for (opnum, expected) in [
        (0, Fault::OPERATION_RANGE),
        (2, Fault::OPERATION_RANGE),
        (77, Fault::OPERATION_RANGE),
        (3, Fault::BAD_STUB_DATA),
    ] {
        let stub = arguments().into_bytes();
        let called = client.call(0, Some(counter.ipid), opnum, &stub).await;
        assert_eq!(fault(called), expected, "{opnum}");
    }
    let stub = arguments().into_bytes();
    let results = client.call(0, Some(counter.ipid), 6, &stub).await.unwrap();
    assert_eq!(result_of(&results), HResult::NOT_IMPLEMENTED);
    let mut stub = arguments().into_bytes();
    stub[0] = 6;
    let called = client.call(0, Some(counter.ipid), 6, &stub).await;
    assert_eq!(fault(called), Fault(HResult::VERSION_MISMATCH.0));
}

#[tokio::test]
async fn many_clients_leave_nothing_behind() {
    let service = Service::start().await;
    for _ in 0..50 {
        let (mut client, counter) = service.counter().await;
        assert_eq!(add(&mut client, counter.ipid, 1).await.unwrap(), 1);
        let ipid = service.unknown(counter.oxid).await;
        unknown(&mut client, ipid, 5, change(&[(counter.ipid, 1)])).await;
    }
    assert_eq!(service.exporter.usage(), dcom::Usage::default());
    assert_eq!(*service.alive.borrow(), 0);
}
