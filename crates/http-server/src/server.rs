//! What is listened on, start and shutdown.

use crate::authentication::{Authenticator, Gate};
use crate::body::AnswerBody;
use crate::connection;
use crate::limits::HttpLimits;
use crate::peer::Peer;
use hyper::body::Incoming;
use hyper::{Request, Response};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// What TLS is spoken with.
#[derive(Clone)]
pub struct Tls {
    /// The settings. With [`ask_for_certificates`](crate::ask_for_certificates) in them, clients may
    /// log on by certificates where the protocol lets them.
    pub config: Arc<rustls::ServerConfig>,
    /// The service's certificate in those settings, for logons that are bound to it; without it they
    /// are not.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Something to listen on.
#[derive(Clone)]
pub enum Listen {
    /// HTTP. Basic authentication.
    Plain(SocketAddr),
    /// HTTPS. Basic authentication.
    Tls(SocketAddr, Tls),
    /// HTTP on a Unix socket. Whoever can connect as root or as the service's own user is an
    /// administrator; others must give credentials.
    Unix(PathBuf),
}

/// Where a [`Listen`] came to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// For [`Listen::Plain`].
    Plain(SocketAddr),
    /// For [`Listen::Tls`].
    Tls(SocketAddr),
    /// For [`Listen::Unix`].
    Unix(PathBuf),
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Plain(address) | LocalAddress::Tls(address) => address.fmt(f),
            LocalAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A protocol over HTTP.
pub trait Service: Send + Sync + 'static {
    /// What is kept of a connection from one request to the next.
    type Session: Send + Sync + 'static;

    /// Begins a connection.
    fn open(self: &Arc<Self>, peer: Peer) -> Self::Session;

    /// Answers one request. Requests of one connection come one after the other.
    fn answer(
        session: &Self::Session,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<AnswerBody>> + Send;
}

/// How to serve.
pub struct ServerConfig {
    /// What the protocol is called in the log.
    pub protocol: &'static str,
    /// What to listen on.
    pub listeners: Vec<Listen>,
    /// What the server may use.
    pub limits: HttpLimits,
    /// Who knows the accounts.
    pub authenticator: Arc<dyn Authenticator>,
}

/// A listener that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A TCP address.
    #[error("cannot listen on {address}; is another service using it?")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A Unix socket.
    #[error("cannot listen on the socket {}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) limits: HttpLimits,
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) own_uid: u32,
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets requests finish.
pub struct Server {
    protocol: &'static str,
    addresses: Vec<LocalAddress>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Server {
    /// Binds every listener and starts to serve. When this returns, connections are accepted.
    pub async fn bind<S: Service>(
        config: ServerConfig,
        service: Arc<S>,
    ) -> Result<Server, BindError> {
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            gate: Gate::new(config.authenticator, &config.limits),
            bodies: Arc::new(Semaphore::new(
                config.limits.bodies.min(Semaphore::MAX_PERMITS),
            )),
            limits: config.limits,
            own_uid: own_uid(),
        });
        let mut bound = Vec::new();
        for listen in config.listeners {
            bound.push(bind(listen).await?);
        }
        let mut addresses = Vec::new();
        let mut listeners = JoinSet::new();
        for (listener, address) in bound {
            tracing::info!(protocol = config.protocol, %address, "listening");
            addresses.push(address);
            listeners.spawn(connection::accept_all(
                listener,
                service.clone(),
                shared.clone(),
                stopped.clone(),
            ));
        }
        Ok(Server {
            protocol: config.protocol,
            addresses,
            stop,
            listeners,
        })
    }

    /// Where it listens, in the order of the configuration, with real port numbers.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.addresses
    }

    /// Stops accepting, lets the requests under way finish for `grace`, and cuts off the rest.
    pub async fn shutdown(mut self, grace: Duration) {
        // Fails only when every listener has ended already.
        let _ = self.stop.send(true);
        let all = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!(
                protocol = self.protocol,
                "requests were cut off at shutdown"
            );
        }
        self.listeners.abort_all();
        for address in &self.addresses {
            if let LocalAddress::Unix(path) = address {
                // A socket file that has gone already is what we want.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// A bound socket.
pub(crate) enum Bound {
    Plain(TcpListener),
    Tls(
        TcpListener,
        tokio_rustls::TlsAcceptor,
        Option<Arc<CertificateDer<'static>>>,
    ),
    Unix(UnixListener),
}

async fn bind(listen: Listen) -> Result<(Bound, LocalAddress), BindError> {
    match listen {
        Listen::Plain(address) => {
            let (listener, address) = bind_tcp(address).await?;
            Ok((Bound::Plain(listener), LocalAddress::Plain(address)))
        }
        Listen::Tls(address, tls) => {
            let (listener, address) = bind_tcp(address).await?;
            let certificate = tls.certificate.map(Arc::new);
            Ok((
                Bound::Tls(listener, tls.config.into(), certificate),
                LocalAddress::Tls(address),
            ))
        }
        Listen::Unix(path) => {
            let listener = bind_unix(&path).map_err(|source| BindError::Unix {
                path: path.clone(),
                source,
            })?;
            Ok((Bound::Unix(listener), LocalAddress::Unix(path)))
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let tcp = |source| BindError::Tcp { address, source };
    let listener = TcpListener::bind(address).await.map_err(tcp)?;
    let local = listener.local_addr().map_err(tcp)?;
    Ok((listener, local))
}

/// A socket file that nobody listens on is left over from a service that was killed.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    if let Ok(metadata) = std::fs::symlink_metadata(path)
        && metadata.file_type().is_socket()
    {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => std::fs::remove_file(path)?,
        }
    }
    let listener = UnixListener::bind(path)?;
    // Peer credentials decide who may do what; the mode only keeps strangers out earlier.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The user this process runs as.
fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
