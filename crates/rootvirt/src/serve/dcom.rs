//! WMI over DCOM: where it listens, and what its clients may do.

use super::logons::Door;
use super::settings::{Listen, Settings};
use crate::failure::{Failure, chain};
use cim_broker::{Broker, Role};
use machines::accounts::Accounts;
use spnego::Logons;
use std::net::SocketAddr;
use std::sync::Arc;
use wire_dcom::{Authority, Configuration, Offer, Server};

/// Serves DCOM, if the settings say so.
pub(super) async fn bind(
    settings: &Settings,
    host_name: &str,
    broker: &Arc<Broker>,
    accounts: &Arc<Accounts>,
    logons: &Arc<Logons>,
) -> Result<Option<Server>, Failure> {
    let Listen::At(resolver) = settings.dcom else {
        return Ok(None);
    };
    let objects = SocketAddr::new(resolver.ip(), settings.dcom_objects_port);
    let mut configuration = Configuration::new(resolver, objects);
    configuration.level = settings.dcom_level;
    configuration.hosts = hosts(resolver, host_name);
    let offer = Offer {
        broker: broker.clone(),
        authority: Arc::new(Door::of(accounts)),
    };
    let server = Server::bind(configuration, offer, logons.clone()).await;
    let server = server.map_err(|error| {
        let failure = Failure::new(chain(&error));
        match resolver.port() {
            1..1024 => failure.remedy(
                "Ports below 1024 take the capability CAP_NET_BIND_SERVICE; give another port \
                 with --dcom to clients that can be told one.",
            ),
            _ => failure,
        }
    })?;
    Ok(Some(server))
}

/// The names that clients may know this host by. Some insist that the one they used is among them.
fn hosts(address: SocketAddr, host_name: &str) -> Vec<String> {
    let mut hosts = vec![host_name.to_owned()];
    let whole = rustix::system::uname();
    let whole = whole.nodename().to_string_lossy();
    if !whole.is_empty() && whole != host_name {
        hosts.push(whole.into_owned());
    }
    if address.ip().is_loopback() {
        hosts.push("localhost".to_owned());
    }
    hosts
}

impl Authority for Door {
    fn role(&self, account: &str) -> Option<Role> {
        Door::role(self, account)
    }
}
