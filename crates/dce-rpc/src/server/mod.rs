//! Listeners, what they offer, what they may use, and how they end.

mod assembly;
mod association;
mod connection;
pub(crate) mod fragments;
mod prompt;
mod recent;
pub(crate) mod security;

use crate::fault::Fault;
use crate::interface::{Connection, Interface, Level, Objects};
use crate::syntax::SyntaxId;
use assembly::Target;
use spnego::Logons;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

/// What one server may use, over all its listeners unless it says otherwise. Memory for requests
/// never exceeds `requests` and one fragment for each connection, whoever sends what.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a fragment in either direction, at least 2048. Logons may come in larger ones.
    pub fragment: u16,
    /// Bytes of one request's arguments.
    pub request: usize,
    /// Bytes of the arguments of all requests that are coming in or being worked on.
    pub requests: usize,
    /// Connections for each listener; more wait to be accepted.
    pub connections: usize,
    /// Connections from one address; more are closed.
    pub connections_of_peer: usize,
    /// Presentation contexts of one connection. More take the place of those that were used longest
    /// ago: clients are known to make one each time they turn to another interface, and to use only
    /// the newest.
    pub presentation_contexts: usize,
    /// Security contexts of one connection. More take the place of those that were used longest ago:
    /// clients are known to log on anew each time they turn to another interface.
    pub security_contexts: usize,
    /// How long a connection may last on which nobody has logged on.
    pub logon_time: Duration,
    /// How long a PDU may take to come in, and how long a request.
    pub fragment_time: Duration,
    /// As above, for a request with all its fragments.
    pub request_time: Duration,
    /// How long a client that has logged on may be silent.
    pub idle_time: Duration,
    /// How long a client may stop taking in a fragment.
    pub stall_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            fragment: 5840,
            request: 4 << 20,
            requests: 64 << 20,
            connections: 256,
            connections_of_peer: 128,
            presentation_contexts: 1024,
            security_contexts: 2049,
            logon_time: Duration::from_secs(30),
            fragment_time: Duration::from_secs(30),
            request_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(30 * 60),
            stall_time: Duration::from_secs(60),
        }
    }
}

/// What is offered on a port.
#[derive(Clone, Default)]
pub struct Endpoint {
    /// Interfaces that are called without an object.
    pub interfaces: Vec<Arc<dyn Interface>>,
    /// Who is called when a request names an object.
    pub objects: Option<Arc<dyn Objects>>,
}

impl Endpoint {
    fn interface(&self, wanted: &SyntaxId) -> Option<&Arc<dyn Interface>> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|interface| interface.syntax().serves(wanted))
    }

    fn offers(&self, wanted: &SyntaxId) -> bool {
        let has_object = |objects: &Arc<dyn Objects>| objects.offers(wanted);
        self.interface(wanted).is_some() || self.objects.as_ref().is_some_and(has_object)
    }

    fn target(&self, bound: &SyntaxId, object: Option<Uuid>) -> Result<(Target, Level), Fault> {
        let object = object.filter(|object| !object.is_nil());
        if let (Some(object), Some(objects)) = (object, &self.objects) {
            let target = Target::Object(objects.clone(), object);
            return Ok((target, objects.required_level()));
        }
        let interface = self.interface(bound).ok_or(Fault::UNKNOWN_INTERFACE)?;
        let target = Target::Interface(interface.clone());
        Ok((target, interface.required_level()))
    }
}

/// A port that is ours, and where nobody is served yet: so that what is offered can know where.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Takes a port; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listener { listener, address })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A port that could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is another service using it?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) logons: Arc<Logons>,
    pub(crate) limits: Limits,
    pub(crate) requests: Arc<Semaphore>,
    peers: Mutex<HashMap<IpAddr, usize>>,
    connections: AtomicU64,
}

impl Shared {
    fn new(logons: Arc<Logons>, mut limits: Limits) -> Arc<Self> {
        limits.fragment = limits.fragment.max(association::SMALLEST_FRAGMENT);
        Arc::new(Shared {
            logons,
            limits,
            requests: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            peers: Mutex::default(),
            connections: AtomicU64::new(1),
        })
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for a connection from an address, if it has not too many.
    fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admission> {
        // The map is whole between any two statements.
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(peer).or_default();
        if *count >= self.limits.connections_of_peer.max(1) {
            return None;
        }
        *count += 1;
        Some(Admission {
            shared: self.clone(),
            peer,
        })
    }
}

/// A place among the connections of one address.
struct Admission {
    shared: Arc<Shared>,
    peer: IpAddr,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut peers = self
            .shared
            .peers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets calls finish.
pub struct Server {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Server {
    /// Serves each listener with what its endpoint offers. Clients log on through `logons`.
    pub fn start(
        listeners: Vec<(Listener, Endpoint)>,
        logons: Arc<Logons>,
        mut limits: Limits,
    ) -> Server {
        limits.fragment = limits.fragment.max(association::SMALLEST_FRAGMENT);
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(Shared {
            logons,
            limits,
            requests: Arc::new(Semaphore::new(limits.requests.min(Semaphore::MAX_PERMITS))),
            peers: Mutex::default(),
            connections: AtomicU64::new(1),
        });
        let mut addresses = Vec::new();
        let mut tasks = JoinSet::new();
        for (listener, endpoint) in listeners {
            tracing::info!(address = %listener.address, "RPC listens");
            addresses.push(listener.address);
            tasks.spawn(connection::accept_all(
                listener.listener,
                Arc::new(endpoint),
                shared.clone(),
                stopped.clone(),
            ));
        }
        Server {
            addresses,
            stop,
            listeners: tasks,
        }
    }

    /// Serves one connection that was accepted elsewhere, until it ends.
    pub async fn serve_stream<S: AsyncRead + AsyncWrite>(
        stream: S,
        connection: Connection,
        endpoint: Endpoint,
        logons: Arc<Logons>,
        limits: Limits,
    ) {
        let shared = Shared::new(logons, limits);
        // Nobody tells it to stop.
        let (_stop, stopped) = watch::channel(false);
        let connection = Arc::new(connection);
        connection::serve(stream, connection, Arc::new(endpoint), shared, stopped).await;
    }

    /// Where it listens, in the order of the listeners.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets the calls under way finish for `grace`, and cuts off the rest.
    pub async fn shutdown(mut self, grace: Duration) {
        // Fails only when every listener has ended already.
        let _ = self.stop.send(true);
        let all = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("RPC calls were cut off at shutdown");
        }
        self.listeners.abort_all();
    }
}
