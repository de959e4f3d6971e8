//! A running bookshop, and a client that sends exactly the bytes it is told to.

use crate::model;
use cim_broker::Role;
use cim_broker::enumeration::Enumerations;
use http_server::{Authenticator, HttpLimits, Identity, Listen, LocalAddress, Verification};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wire_cimxml::{Server, ServerConfig};

/// Far longer than anything here takes; only a defect gets that far.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `reader` and `none` (an account without rights), both with the password `secret`.
#[derive(Default)]
pub struct Accounts {
    pub verifications: AtomicUsize,
}

impl Authenticator for Accounts {
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> Verification<'a> {
        self.verifications.fetch_add(1, Ordering::Relaxed);
        let role = match (user, password) {
            ("reader", "secret") => Some(Role::Administrator),
            ("none", "secret") => Some(Role::None),
            _ => None,
        };
        let user = user.to_owned();
        Box::pin(async move { role.map(|role| Identity { user, role }) })
    }
}

pub struct Shop {
    pub server: Server,
    pub address: SocketAddr,
    pub accounts: Arc<Accounts>,
}

pub async fn shop(limits: HttpLimits) -> Shop {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (server, accounts) = serve(vec![Listen::Plain(any)], limits).await;
    let LocalAddress::Plain(address) = server.local_addresses()[0].clone() else {
        panic!("not a plain listener");
    };
    Shop {
        server,
        address,
        accounts,
    }
}

pub async fn serve(listeners: Vec<Listen>, limits: HttpLimits) -> (Server, Arc<Accounts>) {
    let accounts = Arc::new(Accounts::default());
    let config = ServerConfig {
        listeners,
        limits,
        authenticator: accounts.clone(),
        realm: "a \"book\", shop".to_owned(),
    };
    let broker = Arc::new(model::broker());
    let server = Server::bind(config, broker, Arc::new(Enumerations::default()));
    (server.await.expect("the server binds"), accounts)
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One connection.
pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw(TcpStream::connect(address).await.expect("connects"))
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.expect("is taken");
    }

    /// Reads one answer, by its Content-Length or its chunks.
    pub async fn reply(&mut self) -> Reply {
        tokio::time::timeout(PATIENCE, self.read_reply())
            .await
            .expect("an answer in time")
    }

    async fn read_reply(&mut self) -> Reply {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("a head of text");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let mut reply = Reply {
            status: status.expect("a status"),
            head,
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = reply.header("content-length") {
            body.resize(length.parse().expect("a length"), 0);
            self.0.read_exact(&mut body).await.expect("a whole body");
        } else if reply.header("transfer-encoding") == Some("chunked") {
            self.read_chunks(&mut body).await;
        }
        reply.body = String::from_utf8(body).expect("a body of text");
        reply
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(self.0.read_u8().await.expect("a chunk's length"));
            }
            let text = String::from_utf8_lossy(&line);
            let length = usize::from_str_radix(text.trim(), 16).expect("a number");
            let mut chunk = vec![0; length + 2];
            self.0.read_exact(&mut chunk).await.expect("a whole chunk");
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return;
            }
        }
    }

    /// Whether the server has closed the connection, waiting until it has.
    pub async fn closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        end.is_ok()
    }
}

/// `reader:secret`.
pub const AUTHORIZATION: &str = "Authorization: Basic cmVhZGVyOnNlY3JldA==";

/// A POST with the headers that every good request has, and `more`.
pub fn post(more: &str, method: &str, object: &str, body: &str) -> String {
    format!(
        "POST /cimom HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\nCIMOperation: MethodCall\r\n\
         CIMMethod: {method}\r\nCIMObject: {object}\r\n{more}\
         Content-Type: application/xml; charset=\"utf-8\"\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A message around `body`.
pub fn message(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\">\
         <MESSAGE ID=\"4711\" PROTOCOLVERSION=\"1.0\">{body}</MESSAGE></CIM>"
    )
}

/// An operation in `root/shop` with `parameters` (text of IPARAMVALUEs).
pub fn operation(name: &str, parameters: &str) -> String {
    format!(
        "<SIMPLEREQ><IMETHODCALL NAME=\"{name}\"><LOCALNAMESPACEPATH><NAMESPACE NAME=\"root\"/>\
         <NAMESPACE NAME=\"shop\"/></LOCALNAMESPACEPATH>{parameters}</IMETHODCALL></SIMPLEREQ>"
    )
}

pub fn class_names() -> String {
    message(&operation("EnumerateClassNames", ""))
}

/// Sends one operation and gives the answer.
pub async fn ask(address: SocketAddr, name: &str, parameters: &str) -> Reply {
    let mut raw = Raw::connect(address).await;
    let body = message(&operation(name, parameters));
    raw.send(post("", name, "root/shop", &body)).await;
    raw.reply().await
}

/// An IPARAMVALUE that names a class.
pub fn class_parameter(class: &str) -> String {
    format!("<IPARAMVALUE NAME=\"ClassName\"><CLASSNAME NAME=\"{class}\"/></IPARAMVALUE>")
}

/// An IPARAMVALUE with a text.
pub fn text_parameter(name: &str, text: &str) -> String {
    format!("<IPARAMVALUE NAME=\"{name}\"><VALUE>{text}</VALUE></IPARAMVALUE>")
}
