//! TLS, Unix sockets, keep-alive and shutdown.

use crate::model::NAMESPACE;
use crate::support::{PATIENCE, Raw, class_names, post, serve, shop};
use cim::{Name, Namespace};
use http_server::{HttpLimits, Listen, LocalAddress};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wire_cimxml::{Client, ClientError, Trust};

fn certificate() -> (CertificateDer<'static>, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .expect("a certificate for tests");
    let key =
        PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a certificate for tests");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("a certificate for tests")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate for tests");
    (made.cert.der().clone(), Arc::new(config))
}

#[tokio::test]
async fn tls_serves_who_trusts_it() {
    let (mine, config) = certificate();
    let (other, _) = certificate();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let tls = http_server::Tls {
        config,
        certificate: None,
    };
    let (server, _) = serve(vec![Listen::Tls(any, tls)], HttpLimits::default()).await;
    let LocalAddress::Tls(address) = server.local_addresses()[0].clone() else {
        panic!("not TLS");
    };
    let namespace = Namespace::new(NAMESPACE);
    let by_name = format!("https://localhost:{}", address.port());
    let by_number = format!("https://{address}");
    let good = [
        (&by_number, Trust::Certificate(mine.clone())),
        (&by_name, Trust::Authorities(vec![mine.clone()])),
    ];
    for (url, trust) in good {
        let client = Client::connect(url, "reader", "secret", trust)
            .await
            .unwrap();
        assert!(client.enumerate_qualifiers(&namespace).await.is_ok());
    }
    let bad = [
        (&by_number, Trust::Certificate(other.clone())),
        (&by_name, Trust::Authorities(vec![other])),
        (&by_number, Trust::Authorities(vec![mine])),
    ];
    for (url, trust) in bad {
        let refused = Client::connect(url, "reader", "secret", trust).await;
        assert!(matches!(refused, Err(ClientError::Tls { .. })));
    }
    let refused = Client::connect(&by_name, "reader", "secret", Trust::Nobody).await;
    assert!(matches!(refused, Err(ClientError::Trust { .. })));
    // A client that does not speak TLS does not stop the others.
    let mut raw = Raw::connect(address).await;
    raw.send("POST / HTTP/1.1\r\n\r\n").await;
    assert!(raw.closed().await);
}

#[tokio::test]
async fn trusted_certificates_are_read_from_files() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    assert!(matches!(
        Trust::certificate_file(&file),
        Ok(Trust::Certificate(_))
    ));
    assert!(
        matches!(Trust::authorities_file(&file), Ok(Trust::Authorities(all)) if all.len() == 1)
    );
    std::fs::write(&file, "nothing").unwrap();
    assert!(Trust::certificate_file(&file).is_err());
    assert!(Trust::authorities_file(&folder.path().join("missing")).is_err());
}

#[tokio::test]
async fn the_own_user_needs_no_password_on_the_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.sock");
    // What a killed service leaves behind is in nobody's way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listeners = || vec![Listen::Unix(path.clone())];
    let (server, accounts) = serve(listeners(), HttpLimits::default()).await;
    let client = Client::connect_unix(&path).await.unwrap();
    let namespace = Namespace::new(NAMESPACE);
    let shelves = client
        .enumerate_instances(&namespace, &Name::new("Shop_Shelf"), None)
        .await;
    assert_eq!(shelves.unwrap().len(), 1);
    assert_eq!(
        accounts
            .verifications
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.shutdown(Duration::from_secs(5)).await;
    assert!(!path.exists());
    let gone = Client::connect_unix(&path).await;
    assert!(matches!(gone, Err(ClientError::Connect { .. })));
}

#[tokio::test]
async fn connections_are_kept_and_made_anew() {
    let limits = HttpLimits {
        header_time: Duration::from_millis(200),
        ..HttpLimits::default()
    };
    let shop = shop(limits).await;
    let url = format!("http://{}", shop.address);
    let client = Client::connect(&url, "reader", "secret", Trust::Nobody)
        .await
        .unwrap();
    let namespace = Namespace::new(NAMESPACE);
    assert!(client.enumerate_qualifiers(&namespace).await.is_ok());
    // Until the server has surely closed the idle connection: another one goes the same way.
    let mut idle = Raw::connect(shop.address).await;
    assert!(idle.closed().await);
    assert!(client.enumerate_qualifiers(&namespace).await.is_ok());
}

#[tokio::test]
async fn shutdown_lets_requests_finish_and_cuts_off_the_rest() {
    let shop = shop(HttpLimits::default()).await;
    let mut idle = Raw::connect(shop.address).await;
    let mut half = Raw::connect(shop.address).await;
    let whole = post("", "EnumerateClassNames", "root/shop", &class_names());
    idle.send(&whole).await;
    assert_eq!(idle.reply().await.status, 200);
    let (start, rest) = whole.split_at(whole.len() - 20);
    half.send(start).await;
    // The server has the request's headers: it has asked the accounts who this is.
    let verified = || {
        shop.accounts
            .verifications
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    while verified() < 2 {
        tokio::task::yield_now().await;
    }
    let address = shop.address;
    let stopping = tokio::spawn(shop.server.shutdown(PATIENCE));
    assert!(idle.closed().await);
    half.send(rest).await;
    assert_eq!(half.reply().await.status, 200);
    tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
