//! The resolver on port 135.

use crate::service::{Service, add};
use dce_rpc::client::Client;
use dce_rpc::ndr::{Reader, Writer};
use dcom::bindings::Bindings;
use tokio::net::TcpStream;
use uuid::Uuid;

async fn ask(client: &mut Client<TcpStream>, opnum: u16, stub: Writer) -> Vec<u8> {
    client
        .call(0, None, opnum, &stub.into_bytes())
        .await
        .unwrap()
}

/// A conformant DUALSTRINGARRAY.
fn bindings(reader: &mut Reader<'_>) -> Vec<String> {
    assert_eq!(reader.pointer(), Ok(true));
    reader.u32().unwrap();
    let bindings = Bindings::read_packed(reader).unwrap();
    reader.align(4);
    bindings.addresses()
}

#[tokio::test]
async fn strangers_learn_that_it_is_alive_and_where() {
    let service = Service::start().await;
    let mut client = service.resolver(None).await;
    assert_eq!(ask(&mut client, 3, Writer::new()).await, [0; 4]);
    let alive = ask(&mut client, 5, Writer::new()).await;
    let mut reader = Reader::new(&alive);
    assert_eq!((reader.u16(), reader.u16()), (Ok(5), Ok(7)));
    let port = service.resolver.port();
    let expected = [format!("127.0.0.1[{port}]"), format!("HOST[{port}]")];
    assert_eq!(bindings(&mut reader), expected);
    assert_eq!((reader.u32(), reader.u32()), (Ok(0), Ok(0)));
    assert_eq!(reader.remaining(), 0);
}

#[tokio::test]
async fn an_exporter_is_resolved_to_the_objects_port() {
    let service = Service::start().await;
    let (_, counter) = service.counter().await;
    let mut client = service.resolver(None).await;
    for opnum in [0, 4] {
        let question = |oxid: u64| {
            let mut stub = Writer::new();
            stub.u64(oxid).u16(1).u32(1).u16(7);
            stub
        };
        let answer = ask(&mut client, opnum, question(counter.oxid)).await;
        let mut reader = Reader::new(&answer);
        let port = service.objects.port();
        let expected = [format!("127.0.0.1[{port}]"), format!("HOST[{port}]")];
        assert_eq!(bindings(&mut reader), expected);
        assert_ne!(reader.uuid(), Ok(Uuid::nil()));
        assert_eq!(reader.u32(), Ok(5));
        if opnum == 4 {
            assert_eq!((reader.u16(), reader.u16()), (Ok(5), Ok(7)));
        }
        assert_eq!(reader.u32(), Ok(0));
        assert_eq!(reader.remaining(), 0);

        let answer = ask(&mut client, opnum, question(counter.oxid ^ 1)).await;
        assert_eq!(answer[..4], [0; 4]);
        assert_eq!(Reader::new(&answer[answer.len() - 4..]).u32(), Ok(1910));
    }
}

fn complex_ping(set: u64, add: &[u64], remove: &[u64]) -> Writer {
    let mut stub = Writer::new();
    stub.u64(set).u16(1);
    for oids in [add, remove] {
        stub.u16(u16::try_from(oids.len()).unwrap());
    }
    for oids in [add, remove] {
        if oids.is_empty() {
            stub.null();
            continue;
        }
        stub.pointer().count(oids.len());
        for oid in oids {
            stub.u64(*oid);
        }
    }
    stub
}

#[tokio::test]
async fn sets_are_made_and_pinged() {
    let service = Service::start().await;
    let (mut objects, counter) = service.counter().await;
    let mut client = service.resolver(None).await;
    let answer = ask(&mut client, 2, complex_ping(0, &[counter.oid, 1234], &[])).await;
    let mut reader = Reader::new(&answer);
    let set = reader.u64().unwrap();
    assert!((1..65536).contains(&set));
    assert_eq!((reader.u16(), reader.u32()), (Ok(0), Ok(0)));
    assert_eq!(service.exporter.usage().ping_sets, 1);

    let ping = |set: u64| {
        let mut stub = Writer::new();
        stub.u64(set);
        stub
    };
    assert_eq!(ask(&mut client, 1, ping(set)).await, 0_u32.to_le_bytes());
    let unknown = ask(&mut client, 1, ping(set ^ 1)).await;
    assert_eq!(unknown, 1912_u32.to_le_bytes());
    let answer = ask(&mut client, 2, complex_ping(set, &[], &[counter.oid])).await;
    assert_eq!(Reader::new(&answer).u64(), Ok(set));
    assert_eq!(add(&mut objects, counter.ipid, 1).await.unwrap(), 1);
}
