//! What clients may use, and how long they may take.

use crate::service::{ECHO, GUARDED, OPEN, Service, WAIT, credentials};
use dce_rpc::client::ClientError;
use dce_rpc::pdu::Answer;
use dce_rpc::{Fault, Level, Limits};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

fn is_fault(result: Result<Vec<u8>, ClientError>, fault: Fault) -> bool {
    matches!(result, Err(ClientError::Fault(found)) if found == fault)
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_and_the_next_is_not() {
    let service = Service::start_with(Limits {
        request: 20_000,
        ..Limits::default()
    })
    .await;
    let mut client = service.log_on(&credentials(Level::Privacy)).await;
    for _ in 0..3 {
        let result = client.call(0, None, ECHO, &[7; 100_000]).await;
        assert!(is_fault(result, Fault::REMOTE_NO_MEMORY));
        let result = client.call(0, None, ECHO, &[7; 20_000]).await.unwrap();
        assert_eq!(result, [7; 20_000]);
    }
    let mut stranger = service.connect().await;
    stranger.bind(&[OPEN], None).await.unwrap();
    let result = stranger.call(0, None, ECHO, &[7; 10_000]).await;
    assert!(is_fault(result, Fault::REMOTE_NO_MEMORY));
    assert_eq!(service.seen.calls(), 3);
}

#[tokio::test]
async fn all_requests_share_one_budget() {
    let service = Service::start_with(Limits {
        requests: 50_000,
        ..Limits::default()
    })
    .await;
    let mut waiting = service.seen.waiting.subscribe();
    let mut first = service.log_on(&credentials(Level::Integrity)).await;
    for pdu in first.request(0, None, WAIT, &[7; 40_000]).unwrap() {
        first.send(&pdu).await.unwrap();
    }
    waiting.wait_for(|count| *count == 1).await.unwrap();
    let mut second = service.log_on(&credentials(Level::Integrity)).await;
    let result = second.call(0, None, ECHO, &[7; 20_000]).await;
    assert!(is_fault(result, Fault::SERVER_TOO_BUSY));
    assert!(second.call(0, None, ECHO, &[7; 9_000]).await.is_ok());
    drop(first);
    waiting.wait_for(|count| *count == 0).await.unwrap();
    // The budget is given back a moment after the call has ended.
    while is_fault(
        second.call(0, None, ECHO, &[7; 20_000]).await,
        Fault::SERVER_TOO_BUSY,
    ) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_does_not_log_on_in_time_is_hung_up_on() {
    let service = Service::start_with(Limits {
        logon_time: SHORT,
        ..Limits::default()
    })
    .await;
    let mut silent = service.connect().await;
    let mut stranger = service.connect().await;
    stranger.bind(&[OPEN], None).await.unwrap();
    let mut known = service.log_on(&credentials(Level::Integrity)).await;
    assert!(silent.receive().await.is_err());
    assert!(stranger.receive().await.is_err());
    assert_eq!(known.call(0, None, ECHO, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn a_pdu_and_a_request_must_be_finished_in_time() {
    let service = Service::start_with(Limits {
        fragment_time: SHORT,
        request_time: SHORT,
        ..Limits::default()
    })
    .await;
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    let pdus = client.request(0, None, ECHO, b"x").unwrap();
    client.send(&pdus[0][..20]).await.unwrap();
    assert!(client.receive().await.is_err());

    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    let pdus = client.request(0, None, ECHO, &[1; 9000]).unwrap();
    client.send(&pdus[0]).await.unwrap();
    assert!(client.receive().await.is_err());
    assert_eq!(service.seen.calls(), 0);
}

#[tokio::test]
async fn an_idle_client_is_hung_up_on() {
    let service = Service::start_with(Limits {
        idle_time: SHORT,
        ..Limits::default()
    })
    .await;
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    assert!(client.receive().await.is_err());
}

#[tokio::test]
async fn contexts_are_limited() {
    let service = Service::start_with(Limits {
        presentation_contexts: 5,
        security_contexts: 2,
        ..Limits::default()
    })
    .await;
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    let answers = client.alter_context(&[GUARDED; 3], None).await.unwrap();
    assert_eq!(answers, [Answer::ACCEPTED; 3]);
    // The one that was used stays, the one that was not has made room.
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    assert!(matches!(
        client.call(1, None, ECHO, b"x").await,
        Err(ClientError::Fault(Fault::UNKNOWN_INTERFACE))
    ));
    let first = credentials(Level::Integrity);
    // As impacket does: a logon for each interface it turns to, thousands on one connection.
    for context in 1..20 {
        let mut more = first.clone();
        more.context = context;
        client.alter_context(&[GUARDED], Some(&more)).await.unwrap();
        assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
    }
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let service = Service::start_with(Limits {
        connections_of_peer: 2,
        ..Limits::default()
    })
    .await;
    let first = service.log_on(&credentials(Level::Integrity)).await;
    let _second = service.log_on(&credentials(Level::Integrity)).await;
    let mut third = service.connect().await;
    assert!(third.receive().await.is_err());
    drop(first);
    let mut gone = service.seen.disconnected.subscribe();
    gone.wait_for(|count| *count == 1).await.unwrap();
    // The place is given back a moment after the connection has ended.
    loop {
        let mut fourth = service.connect().await;
        if fourth.bind(&[OPEN], None).await.is_ok() {
            break;
        }
    }
}
