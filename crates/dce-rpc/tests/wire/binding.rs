//! What is agreed on at the beginning.

use crate::service::{ECHO, GUARDED, OBJECT, OF_OBJECTS, OPEN, Service, credentials};
use dce_rpc::pdu::{self, Answer, Bind, Offer, PacketType, flags};
use dce_rpc::{Level, SyntaxId};
use uuid::{Uuid, uuid};

const FEATURES: SyntaxId = SyntaxId::new(uuid!("6cb71c2c-9812-4540-0700-000000000000"), 1);

fn offer(id: u16, interface: SyntaxId, transfers: &[SyntaxId]) -> Offer {
    Offer {
        id,
        interface,
        transfers: transfers.to_vec(),
    }
}

fn bind(offers: Vec<Offer>, max_receive: u16) -> Vec<u8> {
    let body = Bind {
        max_transmit: 5840,
        max_receive,
        group: 0,
        offers,
    };
    pdu::encode(PacketType::BIND, flags::WHOLE, 1, &body.encode(), None).unwrap()
}

#[tokio::test]
async fn each_offer_is_answered_in_order() {
    let service = Service::start().await;
    let mut client = service.connect().await;
    let unknown = SyntaxId::new(Uuid::from_u128(1), 1);
    let newer = SyntaxId {
        minor: 1,
        ..GUARDED
    };
    let offers = vec![
        offer(0, OPEN, &[SyntaxId::NDR]),
        offer(1, OPEN, &[SyntaxId::NDR64]),
        offer(2, OPEN, &[FEATURES]),
        offer(3, unknown, &[SyntaxId::NDR]),
        offer(4, newer, &[SyntaxId::NDR]),
        offer(5, OF_OBJECTS, &[SyntaxId::NDR64, SyntaxId::NDR]),
        offer(6, OPEN, &[]),
    ];
    client.send(&bind(offers, 4280)).await.unwrap();
    let result = client.receive().await.unwrap().bind_result().unwrap();
    assert_eq!(
        result.answers,
        [
            Answer::ACCEPTED,
            Answer::NO_TRANSFER_SYNTAX,
            Answer::features(3),
            Answer::UNKNOWN_INTERFACE,
            Answer::UNKNOWN_INTERFACE,
            Answer::ACCEPTED,
            Answer::NO_TRANSFER_SYNTAX,
        ]
    );
    assert_eq!((result.max_transmit, result.max_receive), (4280, 5840));
    assert_ne!(result.group, 0);
    let port = format!("{}\0", service.address.port());
    assert_eq!(result.address, port.as_bytes());
}

#[tokio::test]
async fn objects_are_called_on_any_context() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    for context in 0..3 {
        let result = client.call(context, Some(OBJECT), ECHO, b"x").await;
        assert_eq!(result.unwrap(), b"x");
    }
    for (context, object) in [
        (0, Some(Uuid::from_u128(4))),
        (2, None),
        (2, Some(Uuid::nil())),
        (9, None),
    ] {
        assert!(client.call(context, object, ECHO, b"x").await.is_err());
    }
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn a_second_bind_or_a_request_before_the_first_ends_the_connection() {
    let service = Service::start().await;
    let mut client = service.connect().await;
    let first = bind(vec![offer(0, OPEN, &[SyntaxId::NDR])], 4280);
    client.send(&first).await.unwrap();
    client.receive().await.unwrap();
    client.send(&first).await.unwrap();
    let answer = client.receive().await.unwrap();
    assert_eq!(answer.header.packet_type, PacketType::BIND_NAK);
    assert!(client.receive().await.is_err());

    let mut client = service.connect().await;
    assert!(client.call(0, None, ECHO, b"x").await.is_err());
    assert_eq!(service.seen.calls(), 0);
}

#[tokio::test]
async fn other_protocols_are_hung_up_on() {
    let service = Service::start().await;
    let good = bind(vec![offer(0, OPEN, &[SyntaxId::NDR])], 4280);
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        changed(0, 4),
        changed(4, 0),
        changed(8, 15),
        changed(2, 99),
    ] {
        let mut client = service.connect().await;
        client.send(&bytes).await.unwrap();
        let _ = client.finish_sending().await;
        while let Ok(answer) = client.receive().await {
            assert_eq!(answer.header.packet_type, PacketType::FAULT);
        }
    }
}

#[tokio::test]
async fn an_unknown_security_provider_is_refused() {
    let service = Service::start().await;
    for (provider, level) in [(16, 6), (10, 1), (10, 7), (68, 5)] {
        let mut client = service.connect().await;
        let body = Bind {
            max_transmit: 5840,
            max_receive: 5840,
            group: 0,
            offers: vec![offer(0, OPEN, &[SyntaxId::NDR])],
        };
        let trailer = pdu::Trailer {
            provider,
            level,
            padding: 0,
            context: 0,
        };
        let auth = Some((trailer, &b"token"[..]));
        let bytes = pdu::encode(PacketType::BIND, flags::WHOLE, 1, &body.encode(), auth).unwrap();
        client.send(&bytes).await.unwrap();
        let answer = client.receive().await.unwrap();
        assert_eq!(answer.header.packet_type, PacketType::BIND_NAK);
        assert_eq!(answer.body_from(16)[..2], [8, 0]);
    }
}
