//! A running bookshop, and a client that sends exactly the bytes it is told to.

use crate::model;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cim_broker::{Broker, Role};
use http_server::{Authenticator, HttpLimits, Identity, Listen, LocalAddress, Verification};
use ntlm::{NtHash, ServerNames};
use spnego::{Account, Attempt, Audit, Logons, Lookup, Refusal};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use wire_wsman::soap::uri;
use wire_wsman::soap::xml::{self, Element};
use wire_wsman::{Certificates, Negotiate, Product, Roles, Server, ServerConfig};

pub const PASSWORD: &str = "secret";
pub const SHOP: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/shop/";
pub const WQL: &str = "http://schemas.microsoft.com/wbem/wsman/1/WQL";

/// `reader` and `other` (administrators) and `none` (an account without rights), as long as they are
/// not removed.
#[derive(Default)]
pub struct Accounts {
    removed: Mutex<Vec<String>>,
}

impl Accounts {
    pub fn remove(&self, user: &str) {
        let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        removed.push(user.to_owned());
    }
}

fn role(user: &str) -> Option<Role> {
    match user {
        "reader" | "other" => Some(Role::Administrator),
        "none" => Some(Role::None),
        _ => None,
    }
}

impl Authenticator for Accounts {
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> Verification<'a> {
        let role = role(user).filter(|_| password == PASSWORD);
        let user = user.to_owned();
        Box::pin(async move { role.map(|role| Identity { user, role }) })
    }
}

impl Roles for Accounts {
    fn role(&self, account: &str) -> Option<Role> {
        let removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
        role(account).filter(|_| !removed.iter().any(|it| it == account))
    }
}

impl spnego::Accounts for Accounts {
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a> {
        let name = attempt.user.to_lowercase();
        Box::pin(async move {
            role(&name).map(|_| Account {
                name,
                hash: NtHash::of_password(PASSWORD),
            })
        })
    }
}

impl Audit for Accounts {
    fn accepted(&self, _: &Attempt, _: &str) {}
    fn refused(&self, _: &str, _: Option<&Attempt>, _: &Refusal) {}
}

pub struct Shop {
    pub _server: Server,
    pub accounts: Arc<Accounts>,
    pub address: SocketAddr,
}

pub async fn shop() -> Shop {
    serve(model::broker()).await
}

pub async fn serve(broker: Broker) -> Shop {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    serve_at(broker, Listen::Plain(any), None).await
}

pub async fn serve_at(
    broker: Broker,
    listen: Listen,
    certificates: Option<Arc<dyn Certificates>>,
) -> Shop {
    let accounts = Arc::new(Accounts::default());
    let names = ServerNames::of_host("shop");
    let logons = Logons::new(names, accounts.clone(), accounts.clone());
    let config = ServerConfig {
        listeners: vec![listen],
        limits: HttpLimits::default(),
        authenticator: accounts.clone(),
        negotiate: Some(Negotiate {
            logons: Arc::new(logons),
            roles: accounts.clone(),
        }),
        certificates,
        realm: "WSMAN".to_owned(),
        product: Product {
            vendor: "a shop".to_owned(),
            version: "1".to_owned(),
        },
    };
    let server = Server::bind(config, Arc::new(broker)).await;
    let server = server.expect("the server binds");
    let (LocalAddress::Plain(address) | LocalAddress::Tls(address)) =
        server.local_addresses()[0].clone()
    else {
        panic!("not an address");
    };
    Shop {
        _server: server,
        accounts,
        address,
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The envelope; the reply must be one.
    pub fn envelope(&self) -> Element {
        xml::parse(&self.body, xml::Limits::REQUEST)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
            .root
    }

    /// The first element of the body.
    pub fn content(&self) -> Element {
        let envelope = self.envelope();
        let body = envelope.child(uri::SOAP, "Body").expect("a body");
        body.children
            .first()
            .cloned()
            .unwrap_or_else(|| panic!("an empty body: {}", self.text()))
    }

    /// The text of a header.
    pub fn soap_header(&self, namespace: &str, name: &str) -> Option<String> {
        let envelope = self.envelope();
        let header = envelope.child(uri::SOAP, "Header")?;
        Some(header.child(namespace, name)?.text.clone())
    }

    /// Subcode (without its prefix), last part of the detail, WSManFault's number.
    pub fn fault(&self) -> (String, String, u32) {
        assert_eq!(self.status, 500, "{}", self.text());
        let fault = self.content();
        assert!(fault.is(uri::SOAP, "Fault"), "{}", self.text());
        let code = fault.child(uri::SOAP, "Code").expect("a code");
        let subcode = code.child(uri::SOAP, "Subcode");
        let subcode = subcode.and_then(|it| it.child(uri::SOAP, "Value"));
        let subcode = subcode.or(code.child(uri::SOAP, "Value")).expect("a value");
        let detail = fault.child(uri::SOAP, "Detail").expect("a detail");
        let address = detail.child(uri::WSMAN, "FaultDetail");
        let number = detail
            .child(uri::WSMAN_FAULT, "WSManFault")
            .expect("WSManFault");
        let last = |text: &str, separator| text.rsplit(separator).next().unwrap_or("").to_owned();
        (
            last(subcode.trimmed(), ':'),
            address.map_or_else(String::new, |it| last(it.trimmed(), '/')),
            number
                .attribute("Code")
                .and_then(|it| it.parse().ok())
                .expect("a number"),
        )
    }
}

/// One connection.
pub struct Raw<T = TcpStream>(pub T);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw(TcpStream::connect(address).await.expect("connects"))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    /// Posts a body with these headers and gives the answer.
    pub async fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all(head.as_bytes()).await.expect("is taken");
        self.0.write_all(body).await.expect("is taken");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("a head of text");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let mut reply = Reply {
            status: status.expect("a status"),
            head,
            body: Vec::new(),
        };
        let length = reply.header("content-length").expect("a length");
        reply.body.resize(length.parse().expect("a length"), 0);
        self.0
            .read_exact(&mut reply.body)
            .await
            .expect("a whole body");
        reply
    }
}

pub const SOAP_TYPE: &str = "Content-Type: application/soap+xml;charset=UTF-8\r\n";

pub fn basic(user: &str) -> String {
    let credentials = BASE64_STANDARD.encode(format!("{user}:{PASSWORD}"));
    format!("Authorization: Basic {credentials}\r\n{SOAP_TYPE}")
}

/// Sends an envelope as `reader` and gives the answer.
pub async fn ask(shop: &Shop, envelope: &str) -> Reply {
    ask_as(shop, "reader", envelope).await
}

pub async fn ask_as(shop: &Shop, user: &str, envelope: &str) -> Reply {
    let mut raw = Raw::connect(shop.address).await;
    raw.post("/wsman", &basic(user), envelope.as_bytes()).await
}

/// The declarations that openwsman's client makes.
pub const DECLARATIONS: &str = "xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
    xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
    xmlns:wsman=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
    xmlns:wsen=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\" \
    xmlns:wsmb=\"http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd\" \
    xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"";

/// A request for `action` on `resource`, with more headers.
pub fn envelope(action: &str, resource: &str, headers: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<s:Envelope {DECLARATIONS}><s:Header>\
         <wsa:Action s:mustUnderstand=\"true\">{action}</wsa:Action>\
         <wsa:To s:mustUnderstand=\"true\">http://x:5985/wsman</wsa:To>\
         <wsman:ResourceURI s:mustUnderstand=\"true\">{resource}</wsman:ResourceURI>\
         <wsa:MessageID s:mustUnderstand=\"true\">uuid:c5c5a5c3-1d3e-4711-9f7b-000000000001</wsa:MessageID>\
         <wsa:ReplyTo><wsa:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous\
         </wsa:Address></wsa:ReplyTo>{headers}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

pub fn transfer(operation: &str, resource: &str, headers: &str, body: &str) -> String {
    let action = format!("{}/{operation}", uri::TRANSFER);
    envelope(&action, resource, headers, body)
}

pub fn selectors(pairs: &[(&str, &str)]) -> String {
    let all = pairs
        .iter()
        .map(|(name, value)| format!("<wsman:Selector Name=\"{name}\">{value}</wsman:Selector>"));
    let all: String = all.collect();
    format!("<wsman:SelectorSet>{all}</wsman:SelectorSet>")
}

pub fn enumerate(resource: &str, content: &str) -> String {
    let action = format!("{}/Enumerate", uri::ENUMERATION);
    let body = format!("<wsen:Enumerate>{content}</wsen:Enumerate>");
    envelope(&action, resource, "", &body)
}

pub fn pull(resource: &str, context: &str, more: &str) -> String {
    let action = format!("{}/Pull", uri::ENUMERATION);
    let body = format!(
        "<wsen:Pull><wsen:EnumerationContext>{context}</wsen:EnumerationContext>{more}</wsen:Pull>"
    );
    envelope(&action, resource, "", &body)
}

pub fn filter(dialect: &str, content: &str) -> String {
    format!("<wsman:Filter Dialect=\"{dialect}\">{content}</wsman:Filter>")
}

/// The context in an answer to Enumerate or Pull, if it is there and not empty.
pub fn context(content: &Element) -> Option<String> {
    let found = content.child(uri::ENUMERATION, "EnumerationContext")?;
    Some(found.trimmed().to_owned()).filter(|it| !it.is_empty())
}

/// Enumerates to the end, and gives the items of each pull.
pub async fn pulls(shop: &Shop, request: &str, more: &str) -> Vec<Vec<Element>> {
    let reply = ask(shop, request).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut next = context(&reply.content());
    let mut found = Vec::new();
    while let Some(context_name) = next {
        // Another class than the one enumerated: only the context counts.
        let request = pull(&format!("{SHOP}Shop_Clerk"), &context_name, more);
        let reply = ask(shop, &request).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let content = reply.content();
        let items = content.child(uri::ENUMERATION, "Items").expect("Items");
        found.push(items.children.clone());
        next = context(&content);
        let over = content.child(uri::ENUMERATION, "EndOfSequence").is_some();
        assert_eq!(over, next.is_none(), "{}", reply.text());
    }
    found
}

pub fn value(instance: &Element, property: &str) -> String {
    let found = instance.child_local(property);
    found
        .unwrap_or_else(|| panic!("{property} in {instance:?}"))
        .text
        .clone()
}
