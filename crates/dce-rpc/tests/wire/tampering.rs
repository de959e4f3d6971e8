//! What was signed or sealed and then changed is never acted upon.

use crate::service::{ECHO, Service, credentials};
use dce_rpc::Level;
use dce_rpc::client::Credentials;
use dce_rpc::pdu::PacketType;

fn both_levels() -> Vec<Credentials> {
    let mut all = Vec::new();
    for level in [Level::Integrity, Level::Privacy] {
        for key_exchange in [false, true] {
            let mut one = credentials(level);
            one.initiator.key_exchange = key_exchange;
            all.push(one);
        }
    }
    all
}

#[tokio::test]
async fn one_changed_byte_anywhere_is_refused() {
    let service = Service::start().await;
    for credentials in both_levels() {
        let mut length = 1;
        let mut at = 0;
        while at < length {
            let mut client = service.log_on(&credentials).await;
            let calls = service.seen.calls();
            let mut pdus = client
                .request(0, None, ECHO, b"nineteen bytes long")
                .unwrap();
            let pdu = &mut pdus[0];
            length = pdu.len();
            pdu[at] ^= 1 << (at % 8);
            client.send(pdu).await.unwrap();
            client.finish_sending().await.unwrap();
            while let Ok(answer) = client.receive().await {
                let kind = answer.header.packet_type;
                assert_eq!(kind, PacketType::FAULT, "byte {at}, {credentials:?}");
            }
            assert_eq!(service.seen.calls(), calls, "byte {at}, {credentials:?}");
            at += 1;
        }
        assert!(length > 60);
    }
}

#[tokio::test]
async fn requests_are_not_repeated_left_out_or_swapped() {
    let service = Service::start().await;
    for credentials in both_levels() {
        for order in [&[0, 0][..], &[1], &[1, 0], &[0, 2]] {
            let mut client = service.log_on(&credentials).await;
            let calls = service.seen.calls();
            let pdus: Vec<_> = (0..3)
                .map(|_| client.request(0, None, ECHO, b"x").unwrap().remove(0))
                .collect();
            for number in order {
                client.send(&pdus[*number]).await.unwrap();
            }
            client.finish_sending().await.unwrap();
            let mut faults = 0;
            while let Ok(answer) = client.receive().await {
                faults += usize::from(answer.header.packet_type == PacketType::FAULT);
            }
            assert_eq!(faults, 1, "{order:?}");
            let first_is_right = usize::from(order[0] == 0);
            assert_eq!(service.seen.calls(), calls + first_is_right, "{order:?}");
        }
    }
}

#[tokio::test]
async fn a_fragment_of_another_request_does_not_fit() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    let first = client.request(0, None, ECHO, &[1; 9000]).unwrap();
    let second = client.request(0, None, ECHO, &[2; 9000]).unwrap();
    assert_eq!((first.len(), second.len()), (2, 2));
    client.send(&first[0]).await.unwrap();
    client.send(&second[1]).await.unwrap();
    while let Ok(answer) = client.receive().await {
        assert_eq!(answer.header.packet_type, PacketType::FAULT);
    }
    assert_eq!(service.seen.calls(), 0);
}
