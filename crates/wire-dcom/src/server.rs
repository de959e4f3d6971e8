//! The wire as a whole: its two ports, what is offered there, its end.

use crate::holdings::HoldingLimits;
use crate::ids;
use crate::login::LoginClass;
use crate::session::{Authority, Service};
use cim_broker::Broker;
pub use dce_rpc::BindError;
use dce_rpc::{Level, Limits, Listener};
use dcom::{Exporter, TableLimits, Usage};
use spnego::Logons;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Where clients begin: activation and object resolution, on port 135 for most of them.
    pub resolver: SocketAddr,
    /// Where objects are called; clients are told. Port 0 takes any free one.
    pub objects: SocketAddr,
    /// The weakest protection of activations and calls that is accepted.
    pub level: Level,
    /// Names under which clients know this machine, besides the address that they connect to.
    pub hosts: Vec<String>,
    /// Limits of connections and messages.
    pub limits: Limits,
    /// Limits of what clients hold.
    pub table: TableLimits,
    /// Limits of what waits to be fetched.
    pub holdings: HoldingLimits,
}

impl Configuration {
    /// These addresses, signed or encrypted calls, the usual limits.
    pub fn new(resolver: SocketAddr, objects: SocketAddr) -> Self {
        Configuration {
            resolver,
            objects,
            level: Level::Integrity,
            hosts: Vec::new(),
            limits: Limits::default(),
            table: TableLimits::default(),
            holdings: HoldingLimits::default(),
        }
    }
}

/// What is offered.
pub struct Offer {
    /// The namespaces.
    pub broker: Arc<Broker>,
    /// What accounts may do.
    pub authority: Arc<dyn Authority>,
}

impl Offer {
    /// The objects' side of the wire on its own, for who serves its endpoints by other means.
    pub fn exporter(&self, configuration: &Configuration) -> Arc<Exporter> {
        let service = Service::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.authority),
            configuration.holdings,
        );
        let (resolver, objects) = (configuration.resolver.port(), configuration.objects.port());
        let mut dcom = dcom::Configuration::new(resolver, objects);
        let class = Arc::new(LoginClass(service));
        dcom.classes.insert(ids::CLSID_LEVEL1_LOGIN, class);
        dcom.interfaces.extend(ids::ALL);
        dcom.level = configuration.level;
        dcom.hosts.clone_from(&configuration.hosts);
        dcom.limits = configuration.table;
        Exporter::new(dcom)
    }
}

/// A running server. Dropping it closes its ports.
pub struct Server {
    rpc: dce_rpc::Server,
    exporter: Arc<Exporter>,
    garbage: JoinHandle<()>,
    resolver: SocketAddr,
    objects: SocketAddr,
}

impl Server {
    /// Takes both ports and serves those who can log on.
    pub async fn bind(
        mut configuration: Configuration,
        offer: Offer,
        logons: Arc<Logons>,
    ) -> Result<Self, BindError> {
        let resolver = Listener::bind(configuration.resolver).await?;
        let objects = Listener::bind(configuration.objects).await?;
        configuration.resolver = resolver.address();
        configuration.objects = objects.address();
        let exporter = offer.exporter(&configuration);
        let garbage = tokio::spawn(Arc::clone(&exporter).collect_garbage_forever());
        let endpoints = vec![
            (resolver, exporter.resolver_endpoint()),
            (objects, exporter.object_endpoint()),
        ];
        Ok(Server {
            rpc: dce_rpc::Server::start(endpoints, logons, configuration.limits),
            exporter,
            garbage,
            resolver: configuration.resolver,
            objects: configuration.objects,
        })
    }

    /// Where clients begin.
    pub fn resolver_address(&self) -> SocketAddr {
        self.resolver
    }

    /// Where objects are called.
    pub fn object_address(&self) -> SocketAddr {
        self.objects
    }

    /// How much clients hold at the moment.
    pub fn usage(&self) -> Usage {
        self.exporter.usage()
    }

    /// Takes no more calls, and gives those under way some time to end.
    pub async fn shutdown(self, grace: Duration) {
        self.rpc.shutdown(grace).await;
        self.garbage.abort();
    }
}
