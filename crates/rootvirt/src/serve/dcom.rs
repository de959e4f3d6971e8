//! WMI over DCOM: where it listens, and its door to the accounts of the catalog. Who may log on by
//! NTLM has the NT hash of the password there; what an account may do is asked at every request.

use super::authentication::role;
use super::settings::{Listen, Settings};
use crate::failure::{Failure, chain};
use cim_broker::{Broker, Role};
use machines::accounts::Accounts;
use ntlm::{NtHash, ServerNames};
use spnego::{Account, Attempt, Audit, Logons, Lookup, Refusal};
use std::net::SocketAddr;
use std::sync::Arc;
use wire_dcom::{Authority, Configuration, Offer, Server};

/// Serves DCOM, if the settings say so.
pub(super) async fn bind(
    settings: &Settings,
    host_name: &str,
    broker: &Arc<Broker>,
    accounts: &Arc<Accounts>,
) -> Result<Option<Server>, Failure> {
    let Listen::At(resolver) = settings.dcom else {
        return Ok(None);
    };
    let objects = SocketAddr::new(resolver.ip(), settings.dcom_objects_port);
    let mut configuration = Configuration::new(resolver, objects);
    configuration.level = settings.dcom_level;
    configuration.hosts = hosts(resolver, host_name);
    let door = Arc::new(Door {
        accounts: accounts.clone(),
    });
    let logons = Logons::new(ServerNames::of_host(host_name), door.clone(), door.clone());
    let offer = Offer {
        broker: broker.clone(),
        logons: Arc::new(logons),
        authority: door,
    };
    let server = Server::bind(configuration, offer).await.map_err(|error| {
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

/// The catalog's accounts, as logons see them.
struct Door {
    accounts: Arc<Accounts>,
}

impl spnego::Accounts for Door {
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a> {
        let (accounts, user) = (self.accounts.clone(), attempt.user.clone());
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || accounts.nt_hash(&user)).await;
            match found {
                Ok(Ok(found)) => {
                    let (name, hash) = found?;
                    let hash = NtHash::from_bytes(bytes_of(&hash)?);
                    Some(Account { name, hash })
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "accounts cannot be read; nobody can log in");
                    None
                }
                Err(_) => None,
            }
        })
    }
}

impl Authority for Door {
    fn role(&self, account: &str) -> Option<Role> {
        match self.accounts.role(account) {
            Ok(found) => found.map(role),
            Err(error) => {
                tracing::error!(%error, "accounts cannot be read; nobody may do anything");
                None
            }
        }
    }
}

impl Audit for Door {
    fn accepted(&self, attempt: &Attempt, account: &str) {
        tracing::info!(
            target: "audit",
            user = account,
            peer = %attempt.peer,
            workstation = %attempt.workstation,
            "logged on by NTLM"
        );
    }

    fn refused(&self, peer: &str, attempt: Option<&Attempt>, refusal: &Refusal) {
        tracing::warn!(
            target: "audit",
            user = attempt.map(|attempt| attempt.user.as_str()).unwrap_or_default(),
            peer,
            %refusal,
            "logon refused"
        );
    }
}

/// A hash as the catalog has it, in hexadecimal.
fn bytes_of(hexadecimal: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = hexadecimal
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| digit.try_into().ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .as_chunks()
        .0
        .iter()
        .map(|[a, b]| a << 4 | b)
        .collect();
    bytes.try_into().ok().filter(|_| digits.len() == 32)
}

#[cfg(test)]
mod tests {
    use super::bytes_of;

    #[test]
    fn stored_hashes_are_read_and_other_texts_refused() {
        let hash = "000102030405060708090a0b0c0d0eff";
        assert_eq!(bytes_of(hash).map(|bytes| bytes[15]), Some(0xff));
        for wrong in ["", "00", &hash[1..], "0001020304050607 8090a0b0c0d0eff"] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
        assert_eq!(bytes_of(&format!("{hash}0")), None);
    }
}
