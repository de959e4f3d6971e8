//! WS-Management: where it listens, and its door to the accounts of the catalog.

use super::authentication::CatalogAccounts;
use super::certificate;
use super::logons::Door;
use super::settings::{Listen, Settings};
use crate::failure::{Failure, chain};
use cim_broker::{Broker, Role};
use http_server::HttpLimits;
use machines::accounts::Accounts;
use spnego::Logons;
use std::sync::Arc;
use wire_wsman::{Negotiate, Product, Roles, Server, ServerConfig};

/// Serves WS-Management, if the settings say so.
pub(super) async fn bind(
    settings: &Settings,
    host_name: &str,
    broker: &Arc<Broker>,
    accounts: &Arc<Accounts>,
    logons: &Arc<Logons>,
) -> Result<Option<Server>, Failure> {
    let mut listeners = Vec::new();
    if let Listen::At(address) = settings.wsman {
        listeners.push(http_server::Listen::Plain(address));
    }
    if let Listen::At(address) = settings.wsman_tls {
        let tls = certificate::server_config(&settings.data_dir, host_name)?;
        listeners.push(http_server::Listen::Tls(address, tls));
    }
    if listeners.is_empty() {
        return Ok(None);
    }
    let config = ServerConfig {
        listeners,
        limits: HttpLimits::default(),
        authenticator: Arc::new(CatalogAccounts::new(accounts.clone())),
        negotiate: Some(Negotiate {
            logons: logons.clone(),
            roles: Arc::new(Door::of(accounts)),
        }),
        realm: "WSMAN".to_owned(),
        product: Product {
            vendor: "rootvirt".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    };
    let server = Server::bind(config, broker.clone()).await;
    server
        .map(Some)
        .map_err(|error| Failure::new(chain(&error)))
}

impl Roles for Door {
    fn role(&self, account: &str) -> Option<Role> {
        Door::role(self, account)
    }
}
