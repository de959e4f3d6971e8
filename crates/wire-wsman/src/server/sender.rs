//! Posts messages to those who have subscribed to events.

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a delivery may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// An address that events are not sent to.
    #[error(
        "{0} is not an address that events are sent to: it must be http://HOST:PORT/PATH, and HOST \
         the one that subscribes"
    )]
    Address(String),
    /// No connection, or it broke.
    #[error("the message could not be sent: {0}")]
    Connection(#[from] std::io::Error),
    /// Not HTTP.
    #[error("the other side does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The request is none: its address is wrong.
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
    /// It was refused.
    #[error("the message was answered with status {0}")]
    Status(u16),
    /// The answer is too long, or broke off.
    #[error("the answer could not be read")]
    Answer,
    /// It took too long.
    #[error("the message was not answered in time")]
    TimedOut,
    /// The answer acknowledges nothing.
    #[error("the message was not acknowledged")]
    Unacknowledged,
}

/// Where messages are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    url: String,
    host: String,
    path: String,
    address: SocketAddr,
}

impl Destination {
    /// The destination that a URL names, if it is on the host `peer`.
    pub async fn of(url: &str, peer: &str) -> Result<Self, SendError> {
        let wrong = || SendError::Address(url.chars().take(200).collect());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let plausible =
            |c: char| c.is_ascii_graphic() && !matches!(c, '@' | '"' | '<' | '>' | '\\');
        if host.is_empty() || url.len() > 2048 || !rest.chars().all(plausible) {
            return Err(wrong());
        }
        let peer = peer.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let has_port = host.rsplit(':').next().is_some_and(|it| {
            host.contains(':') && !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit())
        });
        let place = match has_port {
            true => host.to_owned(),
            false => format!("{host}:80"),
        };
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(&place)).await;
        let mut found = found.map_err(|_| wrong())?.map_err(|_| wrong())?;
        let address = found.find(|it| it.ip().to_canonical() == peer.to_canonical());
        Ok(Destination {
            url: url.to_owned(),
            host: host.to_owned(),
            path: path.to_owned(),
            address: address.ok_or_else(wrong)?,
        })
    }

    /// As the client wrote it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Posts a message and gives the answer.
pub async fn post(destination: &Destination, text: String) -> Result<String, SendError> {
    let exchange = exchange(destination, text);
    let answer = tokio::time::timeout(PATIENCE, exchange).await;
    answer.unwrap_or(Err(SendError::TimedOut))
}

async fn exchange(destination: &Destination, text: String) -> Result<String, SendError> {
    let stream = TcpStream::connect(destination.address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&destination.path)
        .header("host", &destination.host)
        .header("content-type", "application/soap+xml;charset=UTF-8")
        .body(Full::new(Bytes::from(text)))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        if !answer.status().is_success() {
            return Err(SendError::Status(answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), LONGEST_ANSWER);
        let body = body.collect().await.map_err(|_| SendError::Answer)?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    tokio::select! {
        answer = &mut answer => answer,
        // The connection may end with the answer's last byte.
        _ = &mut connection => answer.await,
    }
}
