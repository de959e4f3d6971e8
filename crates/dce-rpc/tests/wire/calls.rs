//! Calls: large ones, wrong ones, and ones that nobody waits for any more.

use crate::service::{
    ECHO, GUARDED, OF_OBJECTS, OPEN, Service, WAIT, all_credentials, credentials,
};
use dce_rpc::client::ClientError;
use dce_rpc::pdu::{self, PacketType, flags};
use dce_rpc::{Fault, Level, SyntaxId};

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn arguments_and_results_of_every_size_come_through() {
    let service = Service::start().await;
    for credentials in all_credentials() {
        let mut client = service.log_on(&credentials).await;
        for length in (0..40).chain([5700, 5750, 5775, 5776, 5777, 5840, 11_552, 300_001]) {
            let sent = data(length);
            let result = client.call(0, None, ECHO, &sent).await.unwrap();
            assert_eq!(result, sent, "{length} bytes");
        }
    }
}

#[tokio::test]
async fn an_operation_that_does_not_exist_is_a_fault_and_no_more() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    let result = client.call(0, None, 77, b"").await;
    assert!(matches!(
        result,
        Err(ClientError::Fault(Fault::OPERATION_RANGE))
    ));
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn a_verification_trailer_is_taken_off_and_believed() {
    let service = Service::start().await;
    let trailer = |interface: SyntaxId| {
        let mut stub = b"some data...".to_vec();
        stub.extend([0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71]);
        stub.extend([0x02, 0x40, 40, 0]);
        for syntax in [interface, SyntaxId::NDR] {
            stub.extend(syntax.uuid.to_bytes_le());
            stub.extend([syntax.major as u8, 0, 0, 0]);
        }
        stub
    };
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    let result = client.call(0, None, ECHO, &trailer(GUARDED)).await.unwrap();
    assert_eq!(result, b"some data...");
    let result = client.call(0, None, ECHO, &trailer(OPEN)).await;
    assert!(matches!(
        result,
        Err(ClientError::Fault(Fault::ACCESS_DENIED))
    ));
    assert_eq!(service.seen.calls(), 1);
}

#[tokio::test]
async fn a_call_ends_when_its_client_goes_away() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    for pdu in client.request(0, None, WAIT, b"").unwrap() {
        client.send(&pdu).await.unwrap();
    }
    let mut waiting = service.seen.waiting.subscribe();
    waiting.wait_for(|count| *count == 1).await.unwrap();
    drop(client);
    waiting.wait_for(|count| *count == 0).await.unwrap();
    let mut gone = service.seen.disconnected.subscribe();
    gone.wait_for(|count| *count == 1).await.unwrap();
}

#[tokio::test]
async fn calls_are_cancelled_and_orphaned() {
    let service = Service::start().await;
    let mut waiting = service.seen.waiting.subscribe();
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    for kind in [PacketType::CO_CANCEL, PacketType::ORPHANED] {
        for pdu in client.request(0, None, WAIT, b"").unwrap() {
            client.send(&pdu).await.unwrap();
        }
        waiting.wait_for(|count| *count == 1).await.unwrap();
        let call = client.last_call();
        // One for another call changes nothing.
        for call in [call + 5, call] {
            let pdu = pdu::encode(kind, flags::WHOLE, call, &[], None).unwrap();
            client.send(&pdu).await.unwrap();
        }
        waiting.wait_for(|count| *count == 0).await.unwrap();
        if kind == PacketType::CO_CANCEL {
            assert!(matches!(
                client.result().await,
                Err(ClientError::Fault(Fault::CANCELLED))
            ));
        }
        assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    }
}

#[tokio::test]
async fn a_request_that_is_cancelled_on_its_way_is_still_answered() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    let pdus = client.request(0, None, ECHO, &[4; 9000]).unwrap();
    client.send(&pdus[0]).await.unwrap();
    let call = client.last_call();
    let cancel = pdu::encode(PacketType::CO_CANCEL, flags::WHOLE, call, &[], None).unwrap();
    client.send(&cancel).await.unwrap();
    client.send(&pdus[1]).await.unwrap();
    assert_eq!(client.result().await.unwrap(), [4; 9000]);

    let pdus = client.request(0, None, ECHO, &[4; 9000]).unwrap();
    client.send(&pdus[0]).await.unwrap();
    let call = client.last_call();
    let orphaned = pdu::encode(PacketType::ORPHANED, flags::WHOLE, call, &[], None).unwrap();
    client.send(&orphaned).await.unwrap();
    client.send(&pdus[1]).await.unwrap();
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    assert_eq!(service.seen.calls(), 2);
}

#[tokio::test]
async fn requests_may_be_sent_ahead() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    for number in 0..20_u8 {
        for pdu in client.request(0, None, ECHO, &[number; 9000]).unwrap() {
            client.send(&pdu).await.unwrap();
        }
    }
    for number in 0..20_u8 {
        assert_eq!(client.result().await.unwrap(), [number; 9000]);
    }
}

#[tokio::test]
async fn a_shutdown_lets_calls_finish_and_tells_the_idle() {
    let service = Service::start().await;
    let mut client = service.connect().await;
    client.bind(&[OPEN, OF_OBJECTS], None).await.unwrap();
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    service
        .server
        .shutdown(std::time::Duration::from_secs(20))
        .await;
    let last = client.receive().await.unwrap();
    assert_eq!(last.header.packet_type, PacketType::SHUTDOWN);
    assert!(client.receive().await.is_err());
}
