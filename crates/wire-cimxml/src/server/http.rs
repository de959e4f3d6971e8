//! One HTTP request: method, headers, credentials, body, then the operations in it, then the answer.
//!
//! The order matters. Nothing of a body is read before its sender is known, and nothing is kept of
//! one that is too big. Only a request that got through all of this reaches an operation, and what
//! operations answer, errors too, goes out with status 200.

use super::Shared;
use super::authentication::Identity;
use super::headers::{self, Prefix};
use crate::explanation;
use cim_broker::{Context, Role};
use cim_xml::request::{RequestMessage, Versions};
use cim_xml::response::ResponseMessage;
use cim_xml::{ErrorKind, Limits};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;
use tracing::Instrument;

/// Answers longer than this go out in chunks.
const CHUNK_ABOVE: usize = 4 << 20;
const CHUNK: usize = 256 << 10;
/// How much of a refused body is thrown away so that the sender can read why it was refused, and for
/// how long.
const DISCARD_BYTES: u64 = 128 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// The other end of a connection.
pub(super) struct Peer {
    address: String,
    trusted: Option<Identity>,
}

impl Peer {
    /// Somebody who must say who they are.
    pub(super) fn remote(address: String) -> Self {
        Peer {
            address,
            trusted: None,
        }
    }

    /// A process of this host whose user the kernel vouches for.
    pub(super) fn local(user: String, role: Role) -> Self {
        Peer {
            address: "local".to_owned(),
            trusted: Some(Identity { user, role }),
        }
    }
}

/// A connection, from one request to the next.
pub(super) struct Session {
    peer: Peer,
    shared: Arc<Shared>,
    verified: Mutex<Option<Verified>>,
}

/// Credentials that were good a moment ago.
struct Verified {
    authorization: String,
    identity: Identity,
    at: Instant,
}

impl Session {
    pub(super) fn new(peer: Peer, shared: Arc<Shared>) -> Self {
        Session {
            peer,
            shared,
            verified: Mutex::new(None),
        }
    }

    async fn identify(&self, headers: &hyper::HeaderMap) -> Result<Identity, Refusal> {
        if let Some(identity) = &self.peer.trusted {
            return Ok(identity.clone());
        }
        let authorization = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .ok_or(Refusal::Unauthenticated)?;
        if let Some(identity) = self.remembered(authorization) {
            return Ok(identity);
        }
        let identity = self
            .shared
            .gate
            .verify(&self.peer.address, authorization)
            .await
            .ok_or(Refusal::Unauthenticated)?;
        *self.memory() = Some(Verified {
            authorization: authorization.to_owned(),
            identity: identity.clone(),
            at: Instant::now(),
        });
        Ok(identity)
    }

    fn remembered(&self, authorization: &str) -> Option<Identity> {
        let memory = self.memory();
        let verified = memory.as_ref()?;
        let fresh = verified.at.elapsed() < self.shared.limits.credentials_time;
        (fresh && verified.authorization == authorization).then(|| verified.identity.clone())
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Option<Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
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
    TooLarge(usize),
    TooSlow,
    /// The connection broke, or the chunks were not chunks.
    Unreadable,
    Busy,
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
            Refusal::TooLarge(limit) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                None,
                format!("A request's body may have {limit} bytes."),
            ),
            Refusal::TooSlow => plain(StatusCode::REQUEST_TIMEOUT, "The body came too slowly."),
            Refusal::Unreadable => plain(StatusCode::BAD_REQUEST, "The body could not be read."),
            Refusal::Busy => plain(
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
                | Refusal::TooSlow
                | Refusal::Unreadable
                | Refusal::Internal
        )
    }
}

/// What goes back.
pub(super) type Answer = Response<Either<Full<Bytes>, Chunks>>;

/// A long text that goes out in chunks. It does not say how long it is, so HTTP/1.1 sends it in
/// chunks of its own.
pub(super) struct Chunks {
    rest: Bytes,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

/// Answers one request.
pub(super) async fn answer(session: &Session, request: Request<Incoming>) -> Answer {
    let span = tracing::info_span!(
        "cimxml",
        peer = session.peer.address,
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
                let budget = match refusal {
                    // Strangers get no more of our time than a small request takes.
                    Refusal::Unauthenticated => session.shared.limits.headers as u64,
                    _ => DISCARD_BYTES,
                };
                close = !discard(&mut body, budget).await;
            }
            refused(&session.shared.realm, &refusal, close)
        }
    }
}

/// Takes in the rest of a body without keeping it; false if there was more than is worth it.
async fn discard(body: &mut Incoming, budget: u64) -> bool {
    let all = async {
        let mut seen = 0_u64;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if seen > budget {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIME, all)
        .await
        .unwrap_or(false)
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
    let (document, permit) = read_body(&session.shared, &parts.headers, body).await?;
    let context = Context {
        user: identity.user,
        role: identity.role,
        peer: session.peer.address.clone(),
    };
    let message = decode(document).await?;
    check_versions(&message.versions)?;
    if !headers::agree(&prefix, &parts.headers, &message) {
        return Err(Refusal::HeaderMismatch);
    }
    let (text, explanation) = work(&session.shared, context, message).await?;
    drop(permit);
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

/// Reads a body within its own limit and the one for all bodies together. The permit stands for its
/// memory until the request is done.
async fn read_body(
    shared: &Shared,
    headers: &hyper::HeaderMap,
    body: &mut Incoming,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Refusal> {
    let limit = shared.limits.body;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .or(body.size_hint().exact());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(Refusal::TooLarge(limit));
    }
    let all = async {
        let mut document = Vec::new();
        let mut permit: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::Unreadable)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if document.len() + data.len() > limit {
                return Err(Refusal::TooLarge(limit));
            }
            let more = u32::try_from(data.len()).map_err(|_| Refusal::TooLarge(limit))?;
            let granted = shared
                .bodies
                .clone()
                .try_acquire_many_owned(more)
                .map_err(|_| Refusal::Busy)?;
            match &mut permit {
                Some(permit) => permit.merge(granted),
                None => permit = Some(granted),
            }
            document.extend_from_slice(&data);
        }
        Ok((document, permit))
    };
    match tokio::time::timeout(shared.limits.body_time, all).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::TooSlow),
    }
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
    shared: &Shared,
    context: Context,
    message: RequestMessage,
) -> Result<(Bytes, Option<String>), Refusal> {
    let names: Vec<&str> = message.requests.iter().map(|r| r.name()).collect();
    tracing::Span::current().record("operation", names.join(" "));
    let mut responses = Vec::with_capacity(message.requests.len());
    let mut explanations = Vec::new();
    for request in message.requests {
        let answer = shared.operations.answer(&context, request).await;
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
    let body = if text.len() > CHUNK_ABOVE {
        Either::Right(Chunks { rest: text })
    } else {
        Either::Left(Full::new(text))
    };
    let mut answer = Response::new(body);
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
    let mut answer = Response::new(Either::Left(Full::from(text + "\n")));
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
        Refusal::Busy => set(&mut answer, "retry-after", "1"),
        _ => {}
    }
    if close || matches!(refusal, Refusal::TooSlow | Refusal::Unreadable) {
        set(&mut answer, "connection", "close");
    }
    answer
}

fn capabilities() -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    set(&mut answer, "allow", "POST, M-POST, OPTIONS");
    for (name, value) in headers::capabilities() {
        set(&mut answer, name, &value);
    }
    answer
}

/// Sets a header whose name and value are known to be fit for one.
fn set(answer: &mut Answer, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = HeaderValue::from_str(value);
    if let (Ok(name), Ok(value)) = (name, value) {
        answer.headers_mut().insert(name, value);
    }
}
