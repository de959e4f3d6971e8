//! One HTTP request: method, headers, credentials, body, then the operations in it, then the answer.
//!
//! The order matters. Nothing of a body is read before its sender is known, and nothing is kept of
//! one that is too big. Only a request that got through all of this reaches an operation, and what
//! operations answer, errors too, goes out with status 200.

use super::CimXml;
use super::headers::{self, Prefix};
use crate::explanation;
use cim_broker::Context;
use cim_xml::request::{RequestMessage, Versions};
use cim_xml::response::ResponseMessage;
use cim_xml::{ErrorKind, Limits};
use http_server::{AnswerBody, BodyError, Identity, Peer, answer_body, discard, set_header as set};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

type Answer = Response<AnswerBody>;

/// A connection, from one request to the next.
pub(super) struct Session {
    peer: Peer,
    service: Arc<CimXml>,
}

impl Session {
    pub(super) fn new(peer: Peer, service: Arc<CimXml>) -> Self {
        Session { peer, service }
    }

    async fn identify(&self, headers: &hyper::HeaderMap) -> Result<Identity, Refusal> {
        let identity = self.peer.identify(headers).await;
        identity.ok_or(Refusal::Unauthenticated)
    }
}

/// A request that reaches no operation, and how HTTP says so.
#[derive(Debug)]
enum Refusal {
    MethodNotAllowed,
    NotExtended,
    Unauthenticated,
    /// `CIMOperation` is not there.
    NoOperation,
    /// `CIMOperation` is something other than a method call.
    UnsupportedOperation,
    UnsupportedMedia(&'static str),
    UnsupportedVersion(&'static str),
    HeaderMismatch,
    Body(BodyError),
    Document(cim_xml::XmlError),
    Internal,
}

impl Refusal {
    /// Status, `CIMError` token, and a sentence.
    fn describe(&self) -> (StatusCode, Option<&'static str>, String) {
        let plain = |status, text: &str| (status, None, text.to_owned());
        let token = |status, token, text: &str| (status, Some(token), text.to_owned());
        match self {
            Refusal::MethodNotAllowed => plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "CIM-XML requests are sent with POST or M-POST.",
            ),
            Refusal::NotExtended => plain(
                StatusCode::NOT_EXTENDED,
                "M-POST needs the header `Man: http://www.dmtf.org/cim/mapping/http/v1.0 ; ns=NN`.",
            ),
            Refusal::Unauthenticated => plain(
                StatusCode::UNAUTHORIZED,
                "Name an account and its password with Basic authentication.",
            ),
            Refusal::NoOperation => token(
                StatusCode::BAD_REQUEST,
                "unsupported-operation",
                "The header `CIMOperation: MethodCall` is missing.",
            ),
            Refusal::UnsupportedOperation => token(
                StatusCode::NOT_IMPLEMENTED,
                "unsupported-operation",
                "The only CIMOperation served here is MethodCall.",
            ),
            Refusal::UnsupportedMedia(text) => plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text),
            Refusal::UnsupportedVersion(name) => token(
                StatusCode::NOT_IMPLEMENTED,
                name,
                "This server speaks protocol version 1, CIM version 2 and DTD version 2.",
            ),
            Refusal::HeaderMismatch => token(
                StatusCode::BAD_REQUEST,
                "header-mismatch",
                "The headers CIMMethod and CIMObject (or CIMBatch) must be there and agree with \
                 the operation and namespace of the body.",
            ),
            Refusal::Body(BodyError::TooLarge(limit)) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                None,
                format!("A request's body may have {limit} bytes."),
            ),
            Refusal::Body(BodyError::TooSlow) => {
                plain(StatusCode::REQUEST_TIMEOUT, "The body came too slowly.")
            }
            Refusal::Body(BodyError::Unreadable) => {
                plain(StatusCode::BAD_REQUEST, "The body could not be read.")
            }
            Refusal::Body(BodyError::Busy) => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "The server is working on as many requests as it has memory for. Try again.",
            ),
            Refusal::Document(error) => {
                let name = match error.kind {
                    ErrorKind::NotWellFormed => "request-not-well-formed",
                    ErrorKind::NotLooselyValid => "request-not-loosely-valid",
                    ErrorKind::TooLarge => "request-not-valid",
                };
                token(StatusCode::BAD_REQUEST, name, &error.to_string())
            }
            Refusal::Internal => plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The request could not be worked on; the server's log says why.",
            ),
        }
    }

    /// Whether the body has been left unread.
    fn leaves_body(&self) -> bool {
        !matches!(
            self,
            Refusal::HeaderMismatch
                | Refusal::UnsupportedVersion(_)
                | Refusal::Document(_)
                | Refusal::Body(BodyError::TooSlow)
                | Refusal::Body(BodyError::Unreadable)
                | Refusal::Internal
        )
    }
}

/// Answers one request.
pub(super) async fn answer(session: &Session, request: Request<Incoming>) -> Answer {
    let span = tracing::info_span!(
        "cimxml",
        peer = session.peer.address(),
        user = tracing::field::Empty,
        operation = tracing::field::Empty,
    );
    async {
        let started = Instant::now();
        let answer = respond(session, request, started).await;
        tracing::debug!(status = answer.status().as_u16(), elapsed = ?started.elapsed(), "answered");
        answer
    }
    .instrument(span)
    .await
}

async fn respond(session: &Session, request: Request<Incoming>, started: Instant) -> Answer {
    if request.method() == Method::OPTIONS {
        return capabilities();
    }
    let (parts, mut body) = request.into_parts();
    match read_and_work(session, &parts, &mut body).await {
        Ok((prefix, text, explanation)) => {
            success(&prefix, text, explanation.as_deref(), started.elapsed())
        }
        Err(refusal) => {
            tracing::debug!(?refusal, "refused");
            let expects = parts.headers.contains_key(header::EXPECT);
            let mut close = false;
            if refusal.leaves_body() && !expects {
                let most = match refusal {
                    // Strangers get no more of our time than a small request takes.
                    Refusal::Unauthenticated => Some(session.peer.limits().headers),
                    _ => None,
                };
                close = !discard(&mut body, most).await;
            }
            refused(&session.service.realm, &refusal, close)
        }
    }
}

async fn read_and_work(
    session: &Session,
    parts: &hyper::http::request::Parts,
    body: &mut Incoming,
) -> Result<(Prefix, Bytes, Option<String>), Refusal> {
    if parts.method != Method::POST && parts.method.as_str() != "M-POST" {
        return Err(Refusal::MethodNotAllowed);
    }
    let prefix = Prefix::of(&parts.method, &parts.headers).ok_or(Refusal::NotExtended)?;
    let identity = session.identify(&parts.headers).await?;
    tracing::Span::current().record("user", &identity.user);
    check_headers(&prefix, &parts.headers)?;
    let received = session.peer.read_body(&parts.headers, body).await;
    let mut received = received.map_err(Refusal::Body)?;
    let context = Context {
        user: identity.user,
        role: identity.role,
        peer: session.peer.address().to_owned(),
    };
    let message = decode(std::mem::take(&mut received.bytes)).await?;
    check_versions(&message.versions)?;
    if !headers::agree(&prefix, &parts.headers, &message) {
        return Err(Refusal::HeaderMismatch);
    }
    let (text, explanation) = work(&session.service, context, message).await?;
    drop(received);
    Ok((prefix, text, explanation))
}

fn check_headers(prefix: &Prefix, headers: &hyper::HeaderMap) -> Result<(), Refusal> {
    match prefix.get(headers, "CIMOperation") {
        None => return Err(Refusal::NoOperation),
        Some(operation) if operation.eq_ignore_ascii_case("MethodCall") => {}
        Some(_) => return Err(Refusal::UnsupportedOperation),
    }
    if let Some(version) = prefix.get(headers, "CIMProtocolVersion")
        && !major_is(version, "1")
    {
        return Err(Refusal::UnsupportedVersion("unsupported-protocol-version"));
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(headers::is_xml) {
        let text = "Content-Type must be application/xml or text/xml, in UTF-8.";
        return Err(Refusal::UnsupportedMedia(text));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(Refusal::UnsupportedMedia(
            "Bodies must come as they are, without a Content-Encoding.",
        )),
        _ => Ok(()),
    }
}

fn check_versions(versions: &Versions) -> Result<(), Refusal> {
    let checks = [
        (&versions.cim, "2", "unsupported-cim-version"),
        (&versions.dtd, "2", "unsupported-dtd-version"),
        (&versions.protocol, "1", "unsupported-protocol-version"),
    ];
    for (version, major, token) in checks {
        if !major_is(version, major) {
            return Err(Refusal::UnsupportedVersion(token));
        }
    }
    Ok(())
}

fn major_is(version: &str, major: &str) -> bool {
    version.trim().split('.').next() == Some(major)
}

/// Reads the message, away from the threads that serve other connections.
async fn decode(document: Vec<u8>) -> Result<RequestMessage, Refusal> {
    let limits = Limits {
        bytes: document.len(),
        ..Limits::REQUEST
    };
    tokio::task::spawn_blocking(move || RequestMessage::decode(&document, limits))
        .await
        .map_err(broken)?
        .map_err(Refusal::Document)
}

/// Runs the operations one after the other and writes the answer.
async fn work(
    service: &CimXml,
    context: Context,
    message: RequestMessage,
) -> Result<(Bytes, Option<String>), Refusal> {
    let names: Vec<&str> = message.requests.iter().map(|r| r.name()).collect();
    tracing::Span::current().record("operation", names.join(" "));
    let mut responses = Vec::with_capacity(message.requests.len());
    let mut explanations = Vec::new();
    for request in message.requests {
        let answer = service.operations.answer(&context, request).await;
        let (response, explanation) = answer.map_err(broken)?;
        responses.push(response);
        explanations.extend(explanation);
    }
    let response = ResponseMessage {
        id: message.id,
        batch: message.batch,
        responses,
    };
    let text = tokio::task::spawn_blocking(move || Bytes::from(response.encode()))
        .await
        .map_err(broken)?;
    let explanation = (!explanations.is_empty()).then(|| explanations.join(" "));
    Ok((text, explanation))
}

/// A task that panicked or was cut off by shutdown.
fn broken(error: tokio::task::JoinError) -> Refusal {
    tracing::error!(%error, "a request could not be worked on");
    Refusal::Internal
}

fn success(prefix: &Prefix, text: Bytes, explanation: Option<&str>, elapsed: Duration) -> Answer {
    let mut answer = Response::new(answer_body(text));
    set(
        &mut answer,
        "content-type",
        "application/xml; charset=\"utf-8\"",
    );
    set(&mut answer, "cache-control", "no-cache");
    set(&mut answer, &prefix.apply("cimoperation"), "MethodResponse");
    let micros = elapsed.as_micros().to_string();
    set(&mut answer, "wbemserverresponsetime", &micros);
    if let Some(explanation) = explanation {
        set(
            &mut answer,
            explanation::HEADER,
            &explanation::encode(explanation),
        );
    }
    if prefix.is_extended() {
        set(&mut answer, "ext", "");
    }
    answer
}

fn refused(realm: &str, refusal: &Refusal, close: bool) -> Answer {
    let (status, token, text) = refusal.describe();
    let mut answer = Response::new(answer_body(Bytes::from(text + "\n")));
    *answer.status_mut() = status;
    set(&mut answer, "content-type", "text/plain; charset=utf-8");
    set(&mut answer, "cache-control", "no-cache");
    if let Some(token) = token {
        set(&mut answer, "cimerror", token);
    }
    match refusal {
        Refusal::Unauthenticated => {
            let realm: String = realm
                .chars()
                .filter(|c| c.is_ascii_graphic() || *c == ' ')
                .filter(|c| !matches!(c, '"' | '\\' | ','))
                .collect();
            set(
                &mut answer,
                "www-authenticate",
                &format!("Basic realm=\"{realm}\""),
            );
        }
        Refusal::MethodNotAllowed => set(&mut answer, "allow", "POST, M-POST, OPTIONS"),
        Refusal::Body(BodyError::Busy) => set(&mut answer, "retry-after", "1"),
        _ => {}
    }
    if close
        || matches!(
            refusal,
            Refusal::Body(BodyError::TooSlow) | Refusal::Body(BodyError::Unreadable)
        )
    {
        set(&mut answer, "connection", "close");
    }
    answer
}

fn capabilities() -> Answer {
    let mut answer = Response::new(answer_body(Bytes::new()));
    set(&mut answer, "allow", "POST, M-POST, OPTIONS");
    for (name, value) in headers::capabilities() {
        set(&mut answer, name, &value);
    }
    answer
}
