//! The server: the broker's operations as a service of an HTTP server.

mod headers;
mod http;

use crate::operations::Operations;
use cim_broker::Broker;
use cim_broker::enumeration::Enumerations;
use http_server::{AnswerBody, Authenticator, BindError, HttpLimits, Listen, LocalAddress, Peer};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::sync::Arc;
use std::time::Duration;

/// How to serve.
pub struct ServerConfig {
    /// What to listen on.
    pub listeners: Vec<Listen>,
    /// What the server may use.
    pub limits: HttpLimits,
    /// Who knows the accounts.
    pub authenticator: Arc<dyn Authenticator>,
    /// What a client is told it is logging in to.
    pub realm: String,
}

/// CIM-XML as a service.
struct CimXml {
    operations: Operations,
    realm: String,
}

impl http_server::Service for CimXml {
    type Session = http::Session;

    fn open(self: &Arc<Self>, peer: Peer) -> http::Session {
        http::Session::new(peer, self.clone())
    }

    async fn answer(session: &http::Session, request: Request<Incoming>) -> Response<AnswerBody> {
        http::answer(session, request).await
    }
}

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets requests finish.
pub struct Server(http_server::Server);

impl Server {
    /// Binds every listener and starts to serve. When this returns, connections are accepted.
    pub async fn bind(
        config: ServerConfig,
        broker: Arc<Broker>,
        enumerations: Arc<Enumerations>,
    ) -> Result<Server, BindError> {
        let service = Arc::new(CimXml {
            operations: Operations::new(broker, enumerations),
            realm: config.realm,
        });
        let config = http_server::ServerConfig {
            protocol: "CIM-XML",
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
