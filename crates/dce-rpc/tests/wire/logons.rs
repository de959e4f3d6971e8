//! Who gets in.

use crate::service::{ECHO, GUARDED, OPEN, Service, WHO, all_credentials, credentials};
use dce_rpc::client::ClientError;
use dce_rpc::pdu::flags;
use dce_rpc::{Fault, Level};
use ntlm::initiator::Initiator;
use spnego::Dialect;

fn fault(result: Result<Vec<u8>, ClientError>) -> Fault {
    match result {
        Err(ClientError::Fault(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_dialect_and_level_gets_in() {
    let service = Service::start().await;
    for credentials in all_credentials() {
        let mut client = service.log_on(&credentials).await;
        for _ in 0..3 {
            let who = client.call(0, None, WHO, b"").await.unwrap();
            let expected = format!("alice at {:?}", credentials.level);
            assert_eq!(String::from_utf8(who).unwrap(), expected);
        }
    }
    let audit = service.seen.audit.lock().unwrap();
    assert_eq!(audit.len(), 8);
    assert!(audit.iter().all(|line| line == "127.0.0.1 is alice"));
}

#[tokio::test]
async fn a_wrong_password_is_told_with_the_next_request() {
    let service = Service::start().await;
    let mut wrong = credentials(Level::Privacy);
    wrong.initiator = Initiator::new("alice", "wrong");
    let mut client = service.log_on(&wrong).await;
    assert_eq!(
        fault(client.call(0, None, ECHO, b"data").await),
        Fault::ACCESS_DENIED
    );
    assert_eq!(
        fault(client.call(1, None, ECHO, b"data").await),
        Fault::ACCESS_DENIED
    );
    assert_eq!(service.seen.calls(), 0);
    let audit = service.seen.audit.lock().unwrap().clone();
    assert_eq!(audit.len(), 1);
    assert!(audit[0].starts_with("127.0.0.1 alice: no account"));

    wrong.dialect = Dialect::Negotiate;
    let mut client = service.connect().await;
    let refused = client.bind(&[GUARDED], Some(&wrong)).await;
    assert!(matches!(
        refused,
        Err(ClientError::Fault(Fault::ACCESS_DENIED))
    ));
    // The connection is of use again with the right password.
    let mut right = credentials(Level::Privacy);
    right.context = 1;
    client.alter_context(&[], Some(&right)).await.unwrap();
    assert_eq!(client.call(0, None, ECHO, b"x").await.unwrap(), b"x");
}

#[tokio::test]
async fn nothing_guarded_is_called_without_a_logon() {
    let service = Service::start().await;
    let mut client = service.connect().await;
    client.bind(&[GUARDED, OPEN], None).await.unwrap();
    assert_eq!(
        fault(client.call(0, None, ECHO, b"x").await),
        Fault::ACCESS_DENIED
    );
    assert_eq!(service.seen.calls(), 0);
    let who = client.call(1, None, WHO, b"").await.unwrap();
    assert_eq!(who, b"nobody at None");
}

#[tokio::test]
async fn the_level_connect_is_too_little_for_what_is_guarded() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Connect)).await;
    assert_eq!(
        fault(client.call(0, None, ECHO, b"x").await),
        Fault::ACCESS_DENIED
    );
    let who = client.call(1, None, WHO, b"").await.unwrap();
    assert_eq!(who, b"alice at Connect");
}

#[tokio::test]
async fn one_connection_has_many_security_contexts() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    let mut sealed = credentials(Level::Privacy);
    for context in 1..100 {
        sealed.context = context;
        client
            .alter_context(&[GUARDED], Some(&sealed))
            .await
            .unwrap();
        let presentation = u16::try_from(context).unwrap() + 2;
        let who = client.call(presentation, None, WHO, b"").await.unwrap();
        assert_eq!(who, b"alice at Privacy");
    }
    assert_eq!(service.seen.audit.lock().unwrap().len(), 100);
}

#[tokio::test]
async fn a_security_context_is_not_made_twice() {
    let service = Service::start().await;
    let mut client = service.log_on(&credentials(Level::Integrity)).await;
    let again = client
        .alter_context(&[], Some(&credentials(Level::Integrity)))
        .await;
    assert!(matches!(
        again,
        Err(ClientError::Fault(Fault::PROTOCOL_ERROR))
    ));
    assert!(client.receive().await.is_err());
}

#[tokio::test]
async fn a_client_may_protect_more_than_it_said_but_not_less() {
    for (said, done, accepted) in [
        (Level::Integrity, 6, true),
        (Level::Privacy, 5, false),
        (Level::Integrity, 2, false),
        (Level::Integrity, 0, false),
    ] {
        let service = Service::start().await;
        let mut client = service.log_on(&credentials(said)).await;
        client.claim_level(done);
        let called = client.call(0, None, ECHO, b"x").await;
        assert_eq!(called.is_ok(), accepted, "{said:?} then {done}");
        assert_eq!(service.seen.calls(), usize::from(accepted));
    }
}

#[tokio::test]
async fn all_fragments_of_a_request_are_protected_alike() {
    let service = Service::start().await;
    for (second, accepted) in [(6, true), (5, false)] {
        let mut client = service.log_on(&credentials(Level::Integrity)).await;
        client.claim_level(6);
        let first = client.fragment(flags::FIRST, 0, ECHO, b"one,").unwrap();
        client.claim_level(second);
        let last = client.fragment(flags::LAST, 0, ECHO, b"two").unwrap();
        client.send(&first).await.unwrap();
        client.send(&last).await.unwrap();
        let called = client.result().await;
        match accepted {
            true => assert_eq!(called.unwrap(), b"one,two"),
            false => assert_eq!(fault(called), Fault::PROTOCOL_ERROR),
        }
    }
    assert_eq!(service.seen.calls(), 1);
}
