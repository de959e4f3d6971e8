//! Connections: accepted within the limit, wrapped in TLS where wanted, served request by request.

use crate::authentication::Identity;
use crate::peer::{Peer, Transport};
use crate::server::{Bound, Service, Shared};
use crate::stall::StallGuard;
use crate::x509::Fingerprint;
use cim_broker::Role;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long to wait after an accept that failed: the usual cause is that the process has run out of
/// descriptors, which closing connections gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

enum Stream {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

/// Accepts until told to stop, then waits for the connections it has.
pub(crate) async fn accept_all<S: Service>(
    listener: Bound,
    service: Arc<S>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(shared.limits.connections));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = async {
                let permit = permits.clone().acquire_owned().await;
                (permit, accept(&listener).await)
            } => accepted,
        };
        let (permit, stream) = match accepted {
            (Ok(permit), Ok(stream)) => (permit, stream),
            (Err(_), _) => break,
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let tls = match &listener {
            Bound::Tls(_, acceptor, certificate) => Some((acceptor.clone(), certificate.clone())),
            Bound::Plain(_) | Bound::Unix(_) => None,
        };
        let (service, shared, stopped) = (service.clone(), shared.clone(), stopped.clone());
        connections.spawn(async move {
            let _permit = permit;
            converse(stream, tls, &service, shared, stopped).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &Bound) -> io::Result<Stream> {
    match listener {
        Bound::Plain(listener) | Bound::Tls(listener, ..) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream, address.ip()))
        }
        Bound::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
    }
}

async fn converse<S: Service>(
    stream: Stream,
    tls: Option<(
        tokio_rustls::TlsAcceptor,
        Option<Arc<CertificateDer<'static>>>,
    )>,
    service: &Arc<S>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    match (stream, tls) {
        (Stream::Tcp(stream, address), None) => {
            let transport = match address.to_canonical().is_loopback() {
                true => Transport::Loopback,
                false => Transport::Plain,
            };
            let peer = Peer::remote(address.to_string(), transport, shared.clone());
            serve(stream, service.open(peer), service, &shared, stopped).await;
        }
        (Stream::Tcp(stream, address), Some((acceptor, certificate))) => {
            let limit = shared.limits.header_time;
            match tokio::time::timeout(limit, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let sent = stream.get_ref().1.peer_certificates();
                    let transport = Transport::Tls {
                        ours: certificate,
                        theirs: sent.and_then(|it| Fingerprint::of(it.first()?)),
                    };
                    let peer = Peer::remote(address.to_string(), transport, shared.clone());
                    serve(stream, service.open(peer), service, &shared, stopped).await;
                }
                Ok(Err(error)) => tracing::debug!(peer = %address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(peer = %address, "TLS handshake took too long"),
            }
        }
        (Stream::Unix(stream), _) => {
            let trusted = local_user(&stream, shared.own_uid);
            let peer = Peer::local(trusted, shared.clone());
            serve(stream, service.open(peer), service, &shared, stopped).await;
        }
    }
}

/// Root and the service's own user need no password: they can read the catalog anyway.
fn local_user(stream: &UnixStream, own_uid: u32) -> Option<Identity> {
    let credentials = stream.peer_cred().ok()?;
    let is_trusted = credentials.uid() == 0 || credentials.uid() == own_uid;
    is_trusted.then(|| Identity {
        user: format!("uid {}", credentials.uid()),
        role: Role::Administrator,
    })
}

async fn serve<T, S: Service>(
    stream: T,
    session: S::Session,
    _: &Arc<S>,
    shared: &Shared,
    mut stopped: watch::Receiver<bool>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.limits;
    let session = Arc::new(session);
    let service = service_fn(move |request| {
        let session = session.clone();
        async move { Ok::<_, std::convert::Infallible>(S::answer(&session, request).await) }
    });
    let io = TokioIo::new(StallGuard::new(stream, limits.stall_time));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.headers.max(8192))
        .max_headers(64)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
