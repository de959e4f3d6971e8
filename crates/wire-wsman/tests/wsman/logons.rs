//! Negotiate, and messages that are sealed with what it gives.

use crate::support::{PASSWORD, Raw, SHOP, SOAP_TYPE, selectors, shop, transfer, value};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ntlm::Security;
use ntlm::initiator::Initiator;
use wire_wsman::encryption;

/// Logs a connection on with bare NTLM messages in Negotiate's header.
async fn log_on(raw: &mut Raw, user: &str, password: &str) -> Result<Security, u16> {
    let initiator = Initiator::new(user, password);
    let header = |token: &[u8]| {
        let token = BASE64_STANDARD.encode(token);
        format!("Authorization: Negotiate {token}\r\n{SOAP_TYPE}")
    };
    let first = raw
        .post("/wsman", &header(&initiator.negotiate()), b"")
        .await;
    assert_eq!(first.status, 401);
    let challenge = first.header("www-authenticate").expect("a challenge");
    let challenge = challenge.strip_prefix("Negotiate ").expect("a token");
    let challenge = BASE64_STANDARD.decode(challenge).expect("a token");
    let (authenticate, security) = initiator
        .authenticate(&initiator.negotiate(), &challenge)
        .expect("a challenge of NTLM");
    let last = raw.post("/wsman", &header(&authenticate), b"").await;
    match last.status {
        200 => Ok(security),
        status => Err(status),
    }
}

fn get() -> String {
    let id = selectors(&[("Id", "b1")]);
    transfer("Get", &format!("{SHOP}Shop_Book"), &id, "")
}

fn sealed(security: &mut Security, text: &str) -> Vec<u8> {
    let mut message = text.as_bytes().to_vec();
    let all = 0..message.len();
    let signature = security.seal(&mut message, all);
    encryption::compose("application/soap+xml;charset=UTF-8", &signature, &message)
}

#[tokio::test]
async fn a_connection_that_is_logged_on_speaks_sealed() {
    let shop = shop().await;
    let mut raw = Raw::connect(shop.address).await;
    let mut security = log_on(&mut raw, "Reader", PASSWORD).await.expect("a logon");
    let headers = format!("Content-Type: {}\r\n", encryption::content_type());
    for _ in 0..3 {
        let body = sealed(&mut security, &get());
        let mut reply = raw.post("/wsman", &headers, &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let content_type = reply.header("content-type").expect("a type").to_owned();
        assert!(content_type.starts_with("multipart/encrypted;protocol=\""));
        assert!(content_type.ends_with("boundary=\"Encrypted Boundary\""));
        assert!(!reply.text().contains("Shop_Book"));
        let parts = encryption::parse(&content_type, &reply.body).expect("a sealed message");
        let mut message = parts.data.to_vec();
        let all = 0..message.len();
        security
            .unseal(&mut message, all, parts.signature)
            .expect("a right signature");
        reply.body = message;
        assert_eq!(value(&reply.content(), "Pages"), "321");
    }
    // The connection stays logged on, for plain messages from this host too.
    let reply = raw.post("/wsman", SOAP_TYPE, get().as_bytes()).await;
    assert_eq!(reply.status, 200);
    // Another connection is not.
    let mut other = Raw::connect(shop.address).await;
    assert_eq!(
        other
            .post("/wsman", SOAP_TYPE, get().as_bytes())
            .await
            .status,
        401
    );
    assert_eq!(other.post("/wsman", &headers, b"x").await.status, 401);
}

#[tokio::test]
async fn changed_or_repeated_messages_end_the_connection() {
    let shop = shop().await;
    let headers = format!("Content-Type: {}\r\n", encryption::content_type());
    for repeated in [false, true] {
        let mut raw = Raw::connect(shop.address).await;
        let mut security = log_on(&mut raw, "reader", PASSWORD).await.expect("a logon");
        let mut body = sealed(&mut security, &get());
        if repeated {
            assert_eq!(raw.post("/wsman", &headers, &body).await.status, 200);
        } else {
            let at = body.len() - 40;
            body[at] ^= 1;
        }
        let reply = raw.post("/wsman", &headers, &body).await;
        assert_eq!(
            (reply.status, reply.header("connection")),
            (400, Some("close"))
        );
    }
}

/// Of what is sealed: the signature, its length before it, and the message. The rest is framing.
#[tokio::test]
async fn one_changed_byte_anywhere_is_refused() {
    let shop = shop().await;
    let headers = format!("Content-Type: {}\r\n", encryption::content_type());
    let short = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Body>\
        <i:Identify xmlns:i=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\"/>\
        </s:Body></s:Envelope>";
    let changed = async |change: Option<usize>| {
        let mut raw = Raw::connect(shop.address).await;
        let mut security = log_on(&mut raw, "reader", PASSWORD).await.expect("a logon");
        let mut body = sealed(&mut security, short);
        let parts = encryption::parse("", &body).expect("our own message");
        let (length, data) = (parts.data.len(), parts.data.to_vec());
        let start = body.windows(length).position(|it| it == data).expect("it");
        if let Some(at) = change {
            body[start - 20 + at] ^= 1 << (at % 8);
        }
        let reply = raw.post("/wsman", &headers, &body).await;
        (
            20 + length,
            reply.status,
            reply.header("connection") == Some("close"),
        )
    };
    let (length, status, _) = changed(None).await;
    assert_eq!(status, 200);
    assert!(length > 150, "{length}");
    for at in 0..length {
        let (_, status, is_closed) = changed(Some(at)).await;
        assert_eq!((status, is_closed), (400, true), "byte {at}");
    }
}

#[tokio::test]
async fn wrong_passwords_and_tokens_are_refused() {
    let shop = shop().await;
    let mut raw = Raw::connect(shop.address).await;
    assert_eq!(log_on(&mut raw, "reader", "wrong").await.err(), Some(401));
    let mut raw = Raw::connect(shop.address).await;
    assert_eq!(log_on(&mut raw, "nobody", PASSWORD).await.err(), Some(401));
    for token in ["!", "AAAA", ""] {
        let mut raw = Raw::connect(shop.address).await;
        let header = format!("Authorization: Negotiate {token}\r\n{SOAP_TYPE}");
        assert_eq!(
            raw.post("/wsman", &header, get().as_bytes()).await.status,
            401
        );
    }
    // A failure does not spoil the connection for another try.
    let mut raw = Raw::connect(shop.address).await;
    assert_eq!(log_on(&mut raw, "reader", "wrong").await.err(), Some(401));
    assert!(log_on(&mut raw, "reader", PASSWORD).await.is_ok());
}
