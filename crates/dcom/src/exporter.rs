//! What a process offers by DCOM: classes, objects, and the two ports they are reached on.

use crate::activation::{Activation, OldActivation};
use crate::bindings::Bindings;
use crate::dispatch::Dispatch;
use crate::hresult::HResult;
use crate::object::{Class, Object};
use crate::objref::{ObjRef, StandardReference};
use crate::resolver::Resolver;
use crate::table::{Found, NotFound, REFERENCES, Table};
use dce_rpc::{Caller, Connection, Endpoint, Level};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often garbage is looked for.
const COLLECTION: Duration = Duration::from_secs(30);
/// The port that clients take for granted.
const WELL_KNOWN_PORT: u16 = 135;

/// How many things clients may hold.
#[derive(Clone, Copy, Debug)]
pub struct TableLimits {
    /// Objects in all.
    pub objects: usize,
    /// Objects of one account.
    pub objects_of_account: usize,
    /// Ping sets in all; no more than 65,535.
    pub ping_sets: usize,
    /// Ping sets of one client address.
    pub ping_sets_of_peer: usize,
}

impl Default for TableLimits {
    fn default() -> Self {
        TableLimits {
            objects: 65_536,
            objects_of_account: 16_384,
            ping_sets: 4096,
            ping_sets_of_peer: 256,
        }
    }
}

/// How much clients hold at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: usize,
    /// Interfaces of objects, each with an IPID.
    pub interfaces: usize,
    /// Ping sets.
    pub ping_sets: usize,
}

/// What to offer.
pub struct Configuration {
    /// What can be activated, by CLSID.
    pub classes: BTreeMap<Uuid, Arc<dyn Class>>,
    /// All interfaces that any object may have: what clients may bind to.
    pub interfaces: BTreeSet<Uuid>,
    /// The weakest protection that activations and calls may come with. Clients are told to sign;
    /// those that are to encrypt must decide so themselves.
    pub level: Level,
    /// Names and addresses under which clients know this machine, besides the address that they
    /// connected to. Some clients (impacket) insist that the name they used is among them.
    pub hosts: Vec<String>,
    /// The port of [`Exporter::resolver_endpoint`].
    pub resolver_port: u16,
    /// The port of [`Exporter::object_endpoint`].
    pub object_port: u16,
    /// How many things clients may hold.
    pub limits: TableLimits,
}

impl Configuration {
    /// Nothing yet, at [`Level::Integrity`], on these ports.
    pub fn new(resolver_port: u16, object_port: u16) -> Self {
        Configuration {
            classes: BTreeMap::new(),
            interfaces: BTreeSet::new(),
            level: Level::Integrity,
            hosts: Vec::new(),
            resolver_port,
            object_port,
            limits: TableLimits::default(),
        }
    }
}

/// An object exporter: one for a process.
pub struct Exporter {
    pub(crate) configuration: Configuration,
    pub(crate) oxid: u64,
    /// The IPID of `IRemUnknown`.
    pub(crate) unknown: Uuid,
    table: Mutex<Table>,
}

impl Exporter {
    /// An exporter that has given nothing out yet.
    pub fn new(configuration: Configuration) -> Arc<Self> {
        let (oxid, _) = Uuid::new_v4().as_u64_pair();
        Arc::new(Exporter {
            table: Mutex::new(Table::new(oxid, configuration.limits)),
            configuration,
            oxid,
            unknown: Uuid::new_v4(),
        })
    }

    /// What to offer on port 135: the object resolver and the activation of classes.
    pub fn resolver_endpoint(self: &Arc<Self>) -> Endpoint {
        Endpoint {
            interfaces: vec![
                Arc::new(Resolver::new(self.clone())),
                Arc::new(Activation::new(self.clone())),
                Arc::new(OldActivation::new(self.clone())),
            ],
            objects: None,
        }
    }

    /// What to offer on the objects' port.
    pub fn object_endpoint(self: &Arc<Self>) -> Endpoint {
        Endpoint {
            interfaces: Vec::new(),
            objects: Some(Arc::new(Dispatch::new(self.clone()))),
        }
    }

    /// Drops what clients do not hold any more, again and again. Belongs into a task of its own.
    pub async fn collect_garbage_forever(self: Arc<Self>) {
        let mut time = tokio::time::interval(COLLECTION);
        loop {
            time.tick().await;
            let usage = {
                let mut table = self.table();
                table.collect(Instant::now());
                table.usage()
            };
            tracing::debug!(
                objects = usage.objects,
                interfaces = usage.interfaces,
                ping_sets = usage.ping_sets,
                "held by clients after a collection"
            );
        }
    }

    /// How much clients hold at the moment.
    pub fn usage(&self) -> Usage {
        self.table().usage()
    }

    /// Gives out a first reference to an object.
    pub(crate) fn export(
        &self,
        object: Arc<dyn Object>,
        interface: Uuid,
        caller: &Caller,
    ) -> Result<StandardReference, HResult> {
        let connection = caller.connection.id;
        self.table()
            .export(object, interface, account(caller), connection)
    }

    /// Gives out another reference to an object that clients have already.
    pub(crate) fn export_again(
        &self,
        oid: u64,
        interface: Uuid,
    ) -> Result<StandardReference, HResult> {
        self.table().export_again(oid, interface, REFERENCES)
    }

    /// The bytes of a reference, for a caller.
    pub(crate) fn reference(
        &self,
        interface: Uuid,
        reference: StandardReference,
        caller: &Caller,
    ) -> Vec<u8> {
        ObjRef::Standard {
            interface,
            reference,
            resolver: self.resolver_bindings(&caller.connection),
        }
        .encode()
    }

    /// What an IPID means to a caller.
    pub(crate) fn find(&self, ipid: &Uuid, caller: &Caller) -> Result<Found, NotFound> {
        let connection = caller.connection.id;
        self.table().find(ipid, account(caller), connection)
    }

    /// The object that an IPID of ours means, if the caller may call it.
    pub(crate) fn resolve(&self, ipid: &Uuid, caller: &Caller) -> Option<Arc<dyn Object>> {
        Some(self.find(ipid, caller).ok()?.object)
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        // Whoever panicked in there did so between two whole states.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where objects are called.
    pub(crate) fn object_bindings(&self, connection: &Connection) -> Bindings {
        self.bindings(connection, Some(self.configuration.object_port))
    }

    /// Where the resolver is.
    pub(crate) fn resolver_bindings(&self, connection: &Connection) -> Bindings {
        let port = self.configuration.resolver_port;
        self.bindings(connection, (port != WELL_KNOWN_PORT).then_some(port))
    }

    /// First the address that the client is connected to: that one works for it.
    fn bindings(&self, connection: &Connection, port: Option<u16>) -> Bindings {
        let local = match connection.local.ip() {
            IpAddr::V6(address) => address.to_canonical(),
            address => address,
        };
        let mut hosts = vec![local.to_string()];
        for host in &self.configuration.hosts {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
        Bindings::new(hosts.iter().map(|host| match port {
            Some(port) => format!("{host}[{port}]"),
            None => host.clone(),
        }))
    }
}

fn account(caller: &Caller) -> Option<&str> {
    caller.identity.as_ref().map(|who| &*who.account)
}
