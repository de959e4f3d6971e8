//! Logons by client certificates.

use crate::model;
use crate::support::{
    Raw, Reply, SHOP, SOAP_TYPE, Shop, basic, selectors, serve_at, shop, transfer, value,
};
use cim_broker::Role;
use http_server::x509::Fingerprint;
use http_server::{Identity, Listen, Tls, ask_for_certificates};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wire_wsman::{CertificateRefusal, Certificates};

const PROFILE: &str = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual";
const EVERY_VERSION: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// Whose certificates are whose, and what was told of logons.
#[derive(Default)]
struct Register {
    holders: Mutex<HashMap<Fingerprint, Result<Identity, CertificateRefusal>>>,
    told: Mutex<Vec<String>>,
}

impl Register {
    fn set(&self, who: &Own, holder: Result<(&str, Role), CertificateRefusal>) {
        let holder = holder.map(|(user, role)| Identity {
            user: user.to_owned(),
            role,
        });
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.insert(who.fingerprint(), holder);
    }

    fn tell(&self, text: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(text);
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Certificates for Register {
    fn holder(&self, certificate: &Fingerprint) -> Result<Identity, CertificateRefusal> {
        let holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let found = holders.get(certificate).cloned();
        found.unwrap_or(Err(CertificateRefusal::Unknown))
    }

    fn accepted(&self, _: &str, certificate: &Fingerprint, account: &str) {
        self.tell(format!("{account} by {certificate}"));
    }

    fn refused(&self, _: &str, certificate: Option<&Fingerprint>, refusal: &CertificateRefusal) {
        let certificate = certificate.map_or("none".to_owned(), Fingerprint::to_string);
        self.tell(format!("{refusal:?} by {certificate}"));
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A certificate with its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Own {
    fn new(name: &str) -> Own {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("one");
        Own {
            certificate: made.cert.der().clone(),
            key: made.signing_key.serialize_der(),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate).expect("SHA-256")
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).expect("a key")
    }
}

/// The shop over TLS, asking for certificates.
async fn secure_shop() -> (Shop, Arc<Register>) {
    let own = Own::new("shop");
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(ask_for_certificates(provider()))
        .with_single_cert(vec![own.certificate.clone()], own.key())
        .expect("a certificate");
    let tls = Tls {
        config: Arc::new(config),
        certificate: Some(own.certificate),
    };
    let register = Arc::new(Register::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let shop = serve_at(
        model::broker(),
        Listen::Tls(any, tls),
        Some(register.clone()),
    );
    (shop.await, register)
}

/// Takes every server for the right one.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Sends these certificates, whether the key fits or not.
#[derive(Debug)]
struct Sends(Arc<CertifiedKey>);

impl ResolvesClientCert for Sends {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn client(
    version: &'static SupportedProtocolVersion,
    chain: Vec<CertificateDer<'static>>,
    key: Option<PrivateKeyDer<'static>>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("a version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider())));
    Arc::new(match key {
        Some(key) => {
            let key = ring::sign::any_supported_type(&key).expect("a key");
            builder
                .with_client_cert_resolver(Arc::new(Sends(Arc::new(CertifiedKey::new(chain, key)))))
        }
        None => builder.with_no_client_auth(),
    })
}

fn client_of(version: &'static SupportedProtocolVersion, own: &Own) -> Arc<ClientConfig> {
    client(version, vec![own.certificate.clone()], Some(own.key()))
}

async fn connect(shop: &Shop, config: &Arc<ClientConfig>) -> io::Result<Raw<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(shop.address).await?;
    let name = ServerName::try_from("shop").expect("a name");
    let connector = tokio_rustls::TlsConnector::from(config.clone());
    connector.connect(name, stream).await.map(Raw)
}

fn get() -> String {
    let id = selectors(&[("Id", "b1")]);
    transfer("Get", &format!("{SHOP}Shop_Book"), &id, "")
}

fn mutual() -> String {
    format!("Authorization: {PROFILE}\r\n{SOAP_TYPE}")
}

async fn ask(raw: &mut Raw<TlsStream<TcpStream>>) -> Reply {
    raw.post("/wsman", &mutual(), get().as_bytes()).await
}

#[tokio::test]
async fn a_certificate_logs_on_as_its_account_for_as_long_as_it_stands_for_it() {
    let (shop, register) = secure_shop().await;
    for version in EVERY_VERSION {
        let own = Own::new("laptop");
        let print = own.fingerprint();
        register.set(&own, Ok(("reader", Role::Administrator)));
        let config = client_of(version, &own);
        let mut raw = connect(&shop, &config).await.expect("TLS");
        for _ in 0..2 {
            let reply = ask(&mut raw).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(value(&reply.content(), "Pages"), "321");
        }
        assert_eq!(register.told(), [format!("reader by {print}")]);
        // It is a logon only if the request says so.
        let reply = raw.post("/wsman", SOAP_TYPE, get().as_bytes()).await;
        assert_eq!(reply.status, 401);
        // What the account may do counts (to this one, nothing is there), and what becomes of it.
        register.set(&own, Ok(("none", Role::None)));
        let (subcode, ..) = ask(&mut raw).await.fault();
        assert_eq!(subcode, "DestinationUnreachable");
        register.set(&own, Err(CertificateRefusal::Unknown));
        assert_eq!(ask(&mut raw).await.status, 401);
        assert_eq!(register.told(), [format!("Unknown by {print}")]);
        register.set(&own, Ok(("reader", Role::Administrator)));
        assert_eq!(ask(&mut raw).await.status, 200);
        // So it is for a session of TLS that is taken up again.
        let mut raw = connect(&shop, &config).await.expect("TLS");
        assert_eq!(
            raw.0.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        assert_eq!(ask(&mut raw).await.status, 200);
        register.set(&own, Err(CertificateRefusal::Unknown));
        assert_eq!(ask(&mut raw).await.status, 401);
        let (known, gone) = (format!("reader by {print}"), format!("Unknown by {print}"));
        assert_eq!(register.told(), [known, gone]);
        // Counted as a failure no more.
        assert_eq!(raw.post("/wsman", &basic("reader"), b"").await.status, 200);
    }
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused_with_the_cause() {
    let (shop, register) = secure_shop().await;
    let own = Own::new("stranger");
    let mut raw = connect(&shop, &client_of(EVERY_VERSION[1], &own))
        .await
        .expect("TLS");
    let reply = ask(&mut raw).await;
    assert_eq!(reply.status, 401);
    assert_eq!(reply.text(), "The certificate belongs to no account.");
    let offered: Vec<&str> = reply
        .head
        .lines()
        .filter_map(|line| line.strip_prefix("www-authenticate: "))
        .collect();
    assert_eq!(offered, ["Negotiate", "Basic realm=\"WSMAN\"", PROFILE]);
    // The other ways stay open to it.
    let reply = raw.post("/wsman", &basic("reader"), get().as_bytes()).await;
    assert_eq!(reply.status, 200);

    let time = time::OffsetDateTime::UNIX_EPOCH;
    let causes = [
        (
            CertificateRefusal::Expired(time),
            "The certificate was valid until 1970-01-01T00:00:00Z.",
        ),
        (
            CertificateRefusal::NotYetValid(time),
            "The certificate is not valid before 1970-01-01T00:00:00Z.",
        ),
    ];
    for (cause, text) in causes {
        register.set(&own, Err(cause));
        let reply = ask(&mut raw).await;
        assert_eq!((reply.status, reply.text().as_str()), (401, text));
    }

    let nobody = client(EVERY_VERSION[1], Vec::new(), None);
    let mut raw = connect(&shop, &nobody).await.expect("TLS");
    assert_eq!(ask(&mut raw).await.status, 401);
    let told = register.told();
    assert_eq!(told.last().map(String::as_str), Some("Missing by none"));
    let reply = raw.post("/wsman", &basic("reader"), get().as_bytes()).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_certificate_without_its_key_ends_the_handshake() {
    let (shop, register) = secure_shop().await;
    let (own, other) = (Own::new("laptop"), Own::new("thief"));
    register.set(&own, Ok(("reader", Role::Administrator)));
    // More than is taken from anybody, too: authorities of authorities.
    let long = vec![own.certificate.clone(); 60];
    for version in EVERY_VERSION {
        for (chain, key) in [
            (vec![own.certificate.clone()], other.key()),
            (long.clone(), own.key()),
        ] {
            let config = client(version, chain, Some(key));
            // TLS 1.3 has the client done before the server has looked.
            let outcome = async {
                let mut raw = connect(&shop, &config).await?;
                let message = format!("POST /wsman HTTP/1.1\r\nHost: x\r\n{}\r\n", mutual());
                raw.0.write_all(message.as_bytes()).await?;
                let mut answer = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut raw.0, &mut answer).await
            };
            let refused = outcome.await.expect_err("the server takes no part in it");
            let alert = refused.to_string();
            assert!(alert.contains("alert"), "{alert}");
        }
        let mut raw = connect(&shop, &client_of(version, &own))
            .await
            .expect("TLS");
        assert_eq!(ask(&mut raw).await.status, 200);
    }
    assert_eq!(register.told().len(), EVERY_VERSION.len());
}

#[tokio::test]
async fn without_tls_there_is_no_such_logon() {
    let shop = shop().await;
    let mut raw = Raw::connect(shop.address).await;
    let reply = raw.post("/wsman", &mutual(), get().as_bytes()).await;
    assert_eq!(reply.status, 401);
    assert!(!reply.head.contains(PROFILE), "{}", reply.head);

    let register = Arc::new(Register::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let shop = serve_at(model::broker(), Listen::Plain(any), Some(register.clone())).await;
    let mut raw = Raw::connect(shop.address).await;
    let reply = raw.post("/wsman", &mutual(), get().as_bytes()).await;
    assert_eq!(reply.status, 401);
    assert!(!reply.head.contains(PROFILE), "{}", reply.head);
    assert_eq!(register.told(), ["Missing by none"]);
}

#[tokio::test]
async fn identify_names_the_ways_of_its_connection() {
    const IDENTIFY: &str = "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Body>\
        <i:Identify xmlns:i=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\"/>\
        </s:Body></s:Envelope>";
    let named = |reply: &Reply| -> Vec<String> {
        let content = reply.content();
        let profiles = content.child_local("SecurityProfiles").expect("them");
        let names = profiles.children.iter().map(|it| it.text.clone());
        let last = names.map(|it| it.split("secprofile/").last().unwrap_or("").to_owned());
        last.collect()
    };
    let path = "/wsman-anon/identify";
    let (secure, _) = secure_shop().await;
    let mut raw = connect(&secure, &client(EVERY_VERSION[1], Vec::new(), None))
        .await
        .expect("TLS");
    let reply = raw.post(path, SOAP_TYPE, IDENTIFY.as_bytes()).await;
    let all = ["https/basic", "https/spnego-kerberos", "https/mutual"];
    assert_eq!(named(&reply), all);
    let plain = shop().await;
    let mut raw = Raw::connect(plain.address).await;
    let reply = raw.post(path, SOAP_TYPE, IDENTIFY.as_bytes()).await;
    assert_eq!(named(&reply), ["http/basic", "http/spnego-kerberos"]);
}
