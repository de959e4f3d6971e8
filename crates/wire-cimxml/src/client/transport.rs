//! HTTP from the client's side: the connection, made anew when the server has closed it between
//! requests, and one request over it.

use super::{ClientError, Trust};
use crate::explanation;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cim::Namespace;
use cim_xml::Limits;
use cim_xml::request::Request as CimRequest;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

/// How long making a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// What a refusal's sentence is cut to.
const REFUSAL_TEXT: usize = 1000;
/// What `CIMObject` cannot hold as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The way to a server.
pub(super) struct Transport {
    place: Place,
    authorization: Option<HeaderValue>,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

enum Place {
    Tcp {
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
    Unix(PathBuf),
}

/// The headers that repeat what a request is.
pub(super) struct CimHeaders {
    method: String,
    object: String,
}

impl CimHeaders {
    pub(super) fn of(request: &CimRequest) -> Self {
        let namespace = request
            .namespace()
            .map_or_else(String::new, |namespace: &Namespace| {
                namespace.segments().collect::<Vec<_>>().join("/")
            });
        let object = match request {
            CimRequest::Intrinsic(_) => namespace,
            CimRequest::Extrinsic(call) => format!("{namespace}:{}", call.target.class),
        };
        CimHeaders {
            method: utf8_percent_encode(request.name(), ESCAPED).to_string(),
            object: utf8_percent_encode(&object, ESCAPED).to_string(),
        }
    }
}

impl Transport {
    pub(super) fn to_url(
        url: &str,
        user: &str,
        password: &str,
        trust: Trust,
    ) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Url {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url
            .parse()
            .map_err(|_| wrong("it cannot be read as a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("an account does not belong into it"));
        }
        let host = authority.host();
        let bare_host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let (port, tls) = match uri.scheme_str() {
            Some("http") => (5988, None),
            Some("https") => {
                let name = ServerName::try_from(bare_host.clone())
                    .map_err(|_| wrong("its host is not a name or address"))?;
                let config = Arc::new(trust.client_config()?);
                (5989, Some((TlsConnector::from(config), name)))
            }
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let mut authorization = HeaderValue::try_from(format!("Basic {credentials}"))
            .map_err(|_| wrong("account and password do not fit into a header"))?;
        authorization.set_sensitive(true);
        Ok(Transport {
            place: Place::Tcp {
                host: bare_host,
                port: authority.port_u16().unwrap_or(port),
                tls,
            },
            authorization: Some(authorization),
            connection: Mutex::new(None),
        })
    }

    pub(super) fn to_unix(path: &Path) -> Self {
        Transport {
            place: Place::Unix(path.to_owned()),
            authorization: None,
            connection: Mutex::new(None),
        }
    }

    /// Connects if there is no connection.
    pub(super) async fn connect(&self) -> Result<(), ClientError> {
        let mut connection = self.connection.lock().await;
        if connection.is_none() {
            *connection = Some(self.open().await?);
        }
        Ok(())
    }

    /// Sends a message and gives the message that comes back.
    pub(super) async fn exchange(
        &self,
        headers: CimHeaders,
        text: String,
    ) -> Result<(Bytes, Option<String>), ClientError> {
        let request = self.request(&headers, text)?;
        let mut connection = self.connection.lock().await;
        let (sender, response) = match connection.take() {
            Some(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => (sender, response),
                // The server closed the connection while nothing was asked; the request comes back
                // only if none of it was sent.
                Err(mut failed) => match failed.take_message() {
                    Some(request) => self.send_anew(request).await?,
                    None => return Err(failed.into_error().into()),
                },
            },
            None => self.send_anew(request).await?,
        };
        let (parts, body) = response.into_parts();
        let limit = Limits::RESPONSE.bytes;
        let body = match Limited::new(body, limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(ClientError::TooLong { limit });
            }
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => ClientError::Broken(*error),
                    Err(_) => ClientError::unexpected("the body"),
                });
            }
        };
        *connection = Some(sender);
        match parts.status {
            StatusCode::OK => {
                let header = parts.headers.get(explanation::HEADER);
                let explanation = header.and_then(|value| value.to_str().ok());
                Ok((body, explanation.and_then(explanation::decode)))
            }
            StatusCode::UNAUTHORIZED => Err(ClientError::Unauthorized),
            status => {
                let token = parts.headers.get("cimerror");
                let token = token.and_then(|value| value.to_str().ok());
                let said = String::from_utf8_lossy(&body);
                let said: String = said.trim().chars().take(REFUSAL_TEXT).collect();
                Err(ClientError::Refused {
                    status: status.as_u16(),
                    text: match token {
                        Some(token) => format!("{token}: {said}"),
                        None => said,
                    },
                })
            }
        }
    }

    async fn send_anew(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), ClientError> {
        let mut sender = self.open().await?;
        let response = sender.send_request(request).await?;
        Ok((sender, response))
    }

    fn request(
        &self,
        headers: &CimHeaders,
        text: String,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let host = match &self.place {
            Place::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        };
        let mut builder = Request::post("/cimom")
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/xml; charset=\"utf-8\"")
            .header("CIMOperation", "MethodCall")
            .header("CIMMethod", headers.method.as_str())
            .header("CIMObject", headers.object.as_str());
        if let Some(authorization) = &self.authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        builder
            .body(Full::from(text))
            .map_err(|_| ClientError::unexpected("a name that does not fit into a header"))
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        tokio::time::timeout(CONNECT_TIME, self.open_slowly())
            .await
            .map_err(|_| ClientError::Connect {
                address: self.address(),
                source: std::io::ErrorKind::TimedOut.into(),
            })?
    }

    async fn open_slowly(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let connect = |source| ClientError::Connect {
            address: self.address(),
            source,
        };
        match &self.place {
            Place::Unix(path) => shake(UnixStream::connect(path).await.map_err(connect)?).await,
            Place::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(connect)?;
                stream.set_nodelay(true).map_err(connect)?;
                match tls {
                    None => shake(stream).await,
                    Some((connector, name)) => {
                        let stream =
                            connector
                                .connect(name.clone(), stream)
                                .await
                                .map_err(|source| ClientError::Tls {
                                    address: self.address(),
                                    source,
                                })?;
                        shake(stream).await
                    }
                }
            }
        }
    }

    fn address(&self) -> String {
        match &self.place {
            Place::Tcp { host, port, .. } => format!("{host}:{port}"),
            Place::Unix(path) => path.display().to_string(),
        }
    }
}

async fn shake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What goes wrong here shows in the request that was under way.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection ended");
        }
    });
    Ok(sender)
}
