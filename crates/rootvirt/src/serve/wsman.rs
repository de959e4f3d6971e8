//! WS-Management: where it listens, and its door to the accounts of the catalog.

use super::authentication::{CatalogAccounts, role};
use super::certificate::{self, ClientCertificates};
use super::logons::Door;
use super::settings::{Listen, Settings};
use crate::failure::{Failure, chain};
use cim_broker::{Broker, Role};
use http_server::x509::Fingerprint;
use http_server::{HttpLimits, Identity};
use machines::accounts::{Accounts, Holder};
use machines::model::Timestamp;
use spnego::Logons;
use std::sync::Arc;
use time::OffsetDateTime;
use wire_wsman::{
    CertificateRefusal, Certificates, Negotiate, Product, Roles, Server, ServerConfig,
};

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
        let clients = ClientCertificates::Asked;
        let tls = certificate::server_config(&settings.data_dir, host_name, clients)?;
        listeners.push(http_server::Listen::Tls(address, tls));
    }
    if listeners.is_empty() {
        return Ok(None);
    }
    let door = Arc::new(Door::of(accounts));
    let config = ServerConfig {
        listeners,
        limits: HttpLimits::default(),
        authenticator: Arc::new(CatalogAccounts::new(accounts.clone())),
        negotiate: Some(Negotiate {
            logons: logons.clone(),
            roles: door.clone(),
        }),
        certificates: Some(door),
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

impl Certificates for Door {
    fn holder(&self, certificate: &Fingerprint) -> Result<Identity, CertificateRefusal> {
        let found = self.accounts().holder(&certificate.to_string());
        let found = found.map_err(|error| {
            tracing::error!(%error, "accounts cannot be read; nobody can log in");
            CertificateRefusal::Unavailable
        })?;
        let holder = found.ok_or(CertificateRefusal::Unknown)?;
        check_validity(&holder, Timestamp::now())?;
        Ok(Identity {
            user: holder.account,
            role: role(holder.role),
        })
    }

    fn accepted(&self, peer: &str, certificate: &Fingerprint, account: &str) {
        tracing::info!(
            target: "audit",
            user = account,
            peer,
            %certificate,
            "logged on by a certificate"
        );
    }

    fn refused(&self, peer: &str, certificate: Option<&Fingerprint>, refusal: &CertificateRefusal) {
        tracing::warn!(
            target: "audit",
            peer,
            certificate = certificate.map(tracing::field::display),
            %refusal,
            "logon refused"
        );
    }
}

/// Both ends of the time that a certificate names belong to it.
fn check_validity(holder: &Holder, now: Timestamp) -> Result<(), CertificateRefusal> {
    let shown = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.0.div_euclid(1_000_000))
            .map_err(|_| CertificateRefusal::Unavailable)
    };
    if now < holder.not_before {
        return Err(CertificateRefusal::NotYetValid(shown(holder.not_before)?));
    }
    // The last second is valid to its end.
    if now.0.div_euclid(1_000_000) > holder.not_after.0.div_euclid(1_000_000) {
        return Err(CertificateRefusal::Expired(shown(holder.not_after)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_holds_from_its_first_to_its_last_second() {
        let second = |number: i64| Timestamp(number * 1_000_000);
        let holder = Holder {
            account: "alice".to_owned(),
            role: machines::accounts::Role::Viewer,
            not_before: second(100),
            not_after: second(200),
        };
        let time = |number| OffsetDateTime::from_unix_timestamp(number).expect("a time");
        let at = |now: Timestamp| check_validity(&holder, now);
        let early = Err(CertificateRefusal::NotYetValid(time(100)));
        assert_eq!(at(Timestamp(99_999_999)), early);
        assert_eq!(at(second(100)), Ok(()));
        assert_eq!(at(Timestamp(200_999_999)), Ok(()));
        assert_eq!(at(second(201)), Err(CertificateRefusal::Expired(time(200))));
    }
}
