//! The server: the broker's operations as a service of an HTTP server.

mod certificates;
mod channel;
pub mod encryption;
mod login;
pub(crate) mod sender;
mod session;

use crate::operations::{Operations, Product};
use cim_broker::{Broker, Role};
use http_server::{AnswerBody, Authenticator, BindError, HttpLimits, Listen, LocalAddress, Peer};
use hyper::body::Incoming;
use hyper::{Request, Response};
use session::Session;
use spnego::Logons;
use std::sync::Arc;
use std::time::Duration;

pub use certificates::{CertificateRefusal, Certificates};

/// Knows what accounts may do.
pub trait Roles: Send + Sync + 'static {
    /// The role of an account that has logged on; `None` if it has gone since. Asked at every request.
    fn role(&self, account: &str) -> Option<Role>;
}

/// Logons by Negotiate.
#[derive(Clone)]
pub struct Negotiate {
    /// The door.
    pub logons: Arc<Logons>,
    /// What those may do who have come in.
    pub roles: Arc<dyn Roles>,
}

/// How to serve.
pub struct ServerConfig {
    /// What to listen on. On [`Listen::Plain`], Basic is taken from this host alone, and messages of
    /// others must be encrypted.
    pub listeners: Vec<Listen>,
    /// What the server may use.
    pub limits: HttpLimits,
    /// Who knows the accounts, for Basic.
    pub authenticator: Arc<dyn Authenticator>,
    /// For Negotiate; without it, it is not offered.
    pub negotiate: Option<Negotiate>,
    /// For logons by client certificates, where TLS asks for them.
    pub certificates: Option<Arc<dyn Certificates>>,
    /// What a client is told it is logging in to.
    pub realm: String,
    /// What Identify answers.
    pub product: Product,
}

/// WS-Management as a service.
struct WsMan {
    operations: Operations,
    negotiate: Option<Negotiate>,
    certificates: Option<Arc<dyn Certificates>>,
    realm: String,
}

impl http_server::Service for WsMan {
    type Session = Session;

    fn open(self: &Arc<Self>, peer: Peer) -> Session {
        Session::new(peer, self.clone())
    }

    async fn answer(session: &Session, request: Request<Incoming>) -> Response<AnswerBody> {
        session::answer(session, request).await
    }
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets requests finish.
pub struct Server(http_server::Server);

impl Server {
    /// Binds every listener and starts to serve. When this returns, connections are accepted.
    pub async fn bind(config: ServerConfig, broker: Arc<Broker>) -> Result<Server, BindError> {
        let realm = config.realm.chars();
        let roles = config.negotiate.as_ref().map(|it| it.roles.clone());
        let service = Arc::new(WsMan {
            operations: Operations::new(broker, roles, config.product),
            negotiate: config.negotiate,
            certificates: config.certificates,
            realm: realm
                .filter(|c| c.is_ascii_graphic() || *c == ' ')
                .filter(|c| !matches!(c, '"' | '\\' | ','))
                .collect(),
        });
        let config = http_server::ServerConfig {
            protocol: "WS-Management",
            listeners: config.listeners,
            limits: config.limits,
            authenticator: config.authenticator,
        };
        http_server::Server::bind(config, service).await.map(Server)
    }

    /// Where it listens, in the order of the configuration, with real port numbers.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        self.0.local_addresses()
    }

    /// Stops accepting, lets the requests under way finish for `grace`, and cuts off the rest.
    pub async fn shutdown(self, grace: Duration) {
        self.0.shutdown(grace).await;
    }
}
