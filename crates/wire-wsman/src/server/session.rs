//! One connection, request by request: address, credentials, body, then the operation in it, then
//! the answer. Nothing of a body is read before its sender is known.

use super::certificates::{self, CertificateRefusal};
use super::login::{self, Login, Progress};
use super::{WsMan, encryption};
use crate::soap::fault::Fault;
use crate::soap::reply::{Envelope, envelope, fault_envelope};
use crate::soap::request::{self, Origin};
use crate::soap::xml::{self, XmlError};
use cim_broker::Context;
use http_server::{AnswerBody, BodyError, Identity, Peer, answer_body, discard, set_header};
use hyper::body::{Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, header};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::sync::Mutex;
use tracing::Instrument;

type Answer = Response<AnswerBody>;

const SOAP_TYPE: &str = "application/soap+xml;charset=UTF-8";

/// A connection, from one request to the next.
pub(super) struct Session {
    pub(super) peer: Peer,
    service: Arc<WsMan>,
    login: Mutex<Login>,
    /// Whether the logon by a certificate has been told.
    pub(super) certificate_told: AtomicBool,
}

/// A request that reaches no operation.
#[derive(Debug)]
enum Refusal {
    Method,
    Path,
    /// Say who you are; with the next token of a logon, if one is under way.
    Unauthenticated(Option<String>),
    /// Not by this certificate.
    Certificate(CertificateRefusal),
    /// The message should have been encrypted.
    Unencrypted,
    /// A sealed message that does not open.
    Unsealable(String),
    Media,
    Body(BodyError),
}

impl Session {
    pub(super) fn new(peer: Peer, service: Arc<WsMan>) -> Self {
        Session {
            peer,
            service,
            login: Mutex::default(),
            certificate_told: AtomicBool::new(false),
        }
    }

    /// Who sends this request, and a token that the answer must carry.
    async fn identify(&self, headers: &HeaderMap) -> Result<(Identity, Option<String>), Refusal> {
        let refused = || Refusal::Unauthenticated(None);
        let authorization = headers.get(header::AUTHORIZATION);
        let authorization = match authorization {
            Some(value) => Some(value.to_str().map_err(|_| refused())?.trim()),
            None => None,
        };
        let (scheme, token) = authorization
            .and_then(|it| it.split_once(' '))
            .unwrap_or_default();
        if let Some(door) = &self.service.negotiate
            && scheme.eq_ignore_ascii_case("negotiate")
        {
            let mut login = self.login.lock().await;
            return match login.step(door, &self.peer, token).await {
                Progress::Done(identity, token) => Ok((identity, token)),
                Progress::Continue(token) => Err(Refusal::Unauthenticated(Some(token))),
                Progress::Refused => Err(refused()),
            };
        }
        if let Some(door) = &self.service.negotiate
            && authorization.is_none()
            && let Login::Done(account, _) = &*self.login.lock().await
        {
            let identity = login::identity(door, account);
            return identity.map(|it| (it, None)).ok_or_else(refused);
        }
        if let Some(door) = &self.service.certificates
            && authorization.is_some_and(|it| it.eq_ignore_ascii_case(certificates::PROFILE))
        {
            let holder = self.certificate_holder(door.as_ref()).await;
            return holder.map(|it| (it, None)).map_err(Refusal::Certificate);
        }
        if !self.peer.is_private() {
            return Err(refused());
        }
        let identity = self.peer.identify(headers).await;
        identity.map(|it| (it, None)).ok_or_else(refused)
    }

    /// The SOAP message of a request, and whether it came sealed.
    async fn message(
        &self,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<(Vec<u8>, bool), Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = match content_type {
            Some(value) => value.to_str().map_err(|_| Refusal::Media)?,
            // Some clients do not say what they send.
            None => SOAP_TYPE,
        };
        let mut login = self.login.lock().await;
        if encryption::is_sealed(content_type) {
            let Login::Done(_, security) = &mut *login else {
                return Err(Refusal::Unauthenticated(None));
            };
            let unsealable = |what: &dyn std::fmt::Display| Refusal::Unsealable(what.to_string());
            let sealed = encryption::parse(content_type, &body).map_err(|it| unsealable(&it))?;
            let mut message = sealed.data.to_vec();
            let all = 0..message.len();
            security
                .unseal(&mut message, all, sealed.signature)
                .map_err(|it| unsealable(&it))?;
            return Ok((message, true));
        }
        if !self.peer.is_private() {
            return Err(Refusal::Unencrypted);
        }
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let known = ["application/soap+xml", "text/xml", "application/xml"];
        match known.iter().any(|it| media.eq_ignore_ascii_case(it)) {
            true => Ok((body, false)),
            false => Err(Refusal::Media),
        }
    }

    /// The answer's body and its content type.
    async fn seal(&self, text: String, sealed: bool) -> (Bytes, String) {
        if sealed && let Login::Done(_, security) = &mut *self.login.lock().await {
            let mut message = text.into_bytes();
            let all = 0..message.len();
            let signature = security.seal(&mut message, all);
            let body = encryption::compose(SOAP_TYPE, &signature, &message);
            return (Bytes::from(body), encryption::content_type());
        }
        (Bytes::from(text), SOAP_TYPE.to_owned())
    }
}

/// Answers one request.
pub(super) async fn answer(session: &Session, request: Request<Incoming>) -> Answer {
    let span = tracing::info_span!(
        "wsman",
        peer = session.peer.address(),
        user = tracing::field::Empty,
        action = tracing::field::Empty,
    );
    async {
        let (parts, mut body) = request.into_parts();
        match respond(session, &parts, &mut body).await {
            Ok(answer) => answer,
            Err(refusal) => {
                tracing::debug!(?refusal, "refused");
                let expects = parts.headers.contains_key(header::EXPECT);
                let leaves_body = !matches!(
                    refusal,
                    Refusal::Unencrypted | Refusal::Unsealable(_) | Refusal::Media
                );
                let mut close = matches!(
                    refusal,
                    Refusal::Unsealable(_)
                        | Refusal::Body(BodyError::TooSlow | BodyError::Unreadable)
                );
                if leaves_body && !expects && !close {
                    // Strangers get no more of our time than a small request takes.
                    let is_stranger = matches!(
                        refusal,
                        Refusal::Unauthenticated(_) | Refusal::Certificate(_)
                    );
                    let most = is_stranger.then_some(session.peer.limits().headers);
                    close = !discard(&mut body, most).await;
                }
                refused(session, &refusal, close)
            }
        }
    }
    .instrument(span)
    .await
}

async fn respond(session: &Session, parts: &Parts, body: &mut Incoming) -> Result<Answer, Refusal> {
    let anonymous = match parts.uri.path() {
        "/wsman" | "/wsman/" => false,
        "/wsman-anon/identify" => true,
        _ => return Err(Refusal::Path),
    };
    if parts.method != Method::POST {
        return Err(Refusal::Method);
    }
    let (identity, token) = match anonymous {
        true => (None, None),
        false => {
            let (identity, token) = session.identify(&parts.headers).await?;
            tracing::Span::current().record("user", &identity.user);
            (Some(identity), token)
        }
    };
    let received = session.peer.read_body(&parts.headers, body).await;
    let mut received = received.map_err(Refusal::Body)?;
    let bytes = std::mem::take(&mut received.bytes);
    let mut answer = if bytes.is_empty() && !anonymous {
        // A logon without a message.
        Response::new(answer_body(Bytes::new()))
    } else {
        let (message, sealed) = match anonymous {
            true => (bytes, false),
            false => session.message(&parts.headers, bytes).await?,
        };
        let envelope = work(session, identity, message).await;
        let (body, content_type) = session.seal(envelope.text, sealed).await;
        let mut answer = Response::new(answer_body(body));
        if envelope.is_fault {
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        set_header(&mut answer, "content-type", &content_type);
        answer
    };
    drop(received);
    if let Some(token) = token {
        set_header(
            &mut answer,
            "www-authenticate",
            &format!("Negotiate {token}"),
        );
    }
    Ok(answer)
}

/// Reads the message and answers it. Without an identity, only Identify is answered.
async fn work(session: &Session, identity: Option<Identity>, message: Vec<u8>) -> Envelope {
    let operations = &session.service.operations;
    // Away from the threads that serve other connections.
    let read = tokio::task::spawn_blocking(move || {
        xml::parse(&message, xml::Limits::REQUEST).map(request::read)
    });
    let (origin, request) = match read.await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => (Origin::default(), Err(unreadable(&error))),
        Err(error) => {
            tracing::error!(%error, "a request could not be read");
            let reason = "The request could not be worked on; the service's log says why.";
            (Origin::default(), Err(Fault::internal(reason)))
        }
    };
    let outcome = match request {
        Err(fault) => Err(fault),
        Ok(request) => {
            tracing::Span::current().record("action", &request.action);
            match identity {
                _ if request.identify => Ok(operations.identify(&security_profiles(session))),
                Some(identity) => {
                    let context = Context {
                        user: identity.user,
                        role: identity.role,
                        peer: session.peer.address().to_owned(),
                    };
                    operations.answer(context, request, &origin).await
                }
                None => Err(Fault::access_denied(
                    "Only Identify is answered to those who do not say who they are.",
                )),
            }
        }
    };
    match outcome {
        Ok(reply) => envelope(&reply, &origin),
        Err(fault) => {
            tracing::debug!(?fault, "fault");
            fault_envelope(&fault, &origin, operations.host_name())
        }
    }
}

fn unreadable(error: &XmlError) -> Fault {
    match error {
        XmlError::Malformed { .. } => {
            Fault::schema(format!("The message cannot be read: {error}."))
        }
        XmlError::TooLarge(reason) => Fault::encoding_limit("ServiceEnvelopeLimit", reason),
    }
}

fn refused(session: &Session, refusal: &Refusal, close: bool) -> Answer {
    let (status, text) = match refusal {
        Refusal::Method => (
            StatusCode::METHOD_NOT_ALLOWED,
            "Requests are sent with POST.".to_owned(),
        ),
        Refusal::Path => (
            StatusCode::NOT_FOUND,
            "The service is at /wsman.".to_owned(),
        ),
        Refusal::Unauthenticated(Some(_)) => (StatusCode::UNAUTHORIZED, String::new()),
        Refusal::Unauthenticated(None) => (
            StatusCode::UNAUTHORIZED,
            "Name an account and prove that it is yours.".to_owned(),
        ),
        Refusal::Certificate(why) => (StatusCode::UNAUTHORIZED, format!("{why}.")),
        Refusal::Unencrypted => (
            StatusCode::FORBIDDEN,
            "Messages over plain HTTP from another host must be encrypted (Negotiate). Or use TLS."
                .to_owned(),
        ),
        Refusal::Unsealable(what) => (StatusCode::BAD_REQUEST, what.clone()),
        Refusal::Media => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Type must be application/soap+xml, or multipart/encrypted.".to_owned(),
        ),
        Refusal::Body(BodyError::TooLarge(limit)) => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("A request's body may have {limit} bytes."),
        ),
        Refusal::Body(BodyError::TooSlow) => (
            StatusCode::REQUEST_TIMEOUT,
            "The body came too slowly.".to_owned(),
        ),
        Refusal::Body(BodyError::Unreadable) => (
            StatusCode::BAD_REQUEST,
            "The body could not be read.".to_owned(),
        ),
        Refusal::Body(BodyError::Busy) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The server is working on as many requests as it has memory for. Try again.".to_owned(),
        ),
    };
    let mut answer = Response::new(answer_body(Bytes::from(text)));
    *answer.status_mut() = status;
    set_header(&mut answer, "content-type", "text/plain; charset=utf-8");
    match refusal {
        Refusal::Method => set_header(&mut answer, "allow", "POST"),
        Refusal::Body(BodyError::Busy) => set_header(&mut answer, "retry-after", "1"),
        Refusal::Unauthenticated(Some(token)) => {
            set_header(
                &mut answer,
                "www-authenticate",
                &format!("Negotiate {token}"),
            );
        }
        Refusal::Unauthenticated(None) | Refusal::Certificate(_) => offer(session, &mut answer),
        _ => {}
    }
    if close {
        set_header(&mut answer, "connection", "close");
    }
    answer
}

/// The ways to log on.
fn offer(session: &Session, answer: &mut Answer) {
    let mut add = |value: &str| {
        if let Ok(value) = header::HeaderValue::from_str(value) {
            answer.headers_mut().append(header::WWW_AUTHENTICATE, value);
        }
    };
    if session.service.negotiate.is_some() {
        add("Negotiate");
    }
    if session.peer.is_private() {
        add(&format!("Basic realm=\"{}\"", session.service.realm));
    }
    // Last: it is no scheme that HTTP knows, and clients that stumble over it have read the others.
    if session.service.certificates.is_some() && session.peer.is_tls() {
        add(certificates::PROFILE);
    }
}

/// The ways to log on over this connection, as Identify names them (DSP0226 annex C; Negotiate is
/// `spnego-kerberos` whatever is inside of it, MS-WSMV 3.1.4.1.29.2).
fn security_profiles(session: &Session) -> Vec<String> {
    let (service, peer) = (&session.service, &session.peer);
    let transport = if peer.is_tls() { "https" } else { "http" };
    let offered = [
        (peer.is_private(), "basic"),
        (service.negotiate.is_some(), "spnego-kerberos"),
        (service.certificates.is_some() && peer.is_tls(), "mutual"),
    ];
    let offered = offered.iter().filter(|(is_offered, _)| *is_offered);
    offered
        .map(|(_, profile)| format!("{}{transport}/{profile}", certificates::PROFILES))
        .collect()
}
