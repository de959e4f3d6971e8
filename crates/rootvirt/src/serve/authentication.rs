//! The wire's door to the accounts of the catalog.

use http_server::{Authenticator, Identity};
use machines::accounts::{self, Accounts};
use std::sync::Arc;

/// Verifies against the catalog's accounts.
pub struct CatalogAccounts {
    accounts: Arc<Accounts>,
}

impl CatalogAccounts {
    /// The accounts of a catalog.
    pub fn new(accounts: Arc<Accounts>) -> Self {
        CatalogAccounts { accounts }
    }
}

impl Authenticator for CatalogAccounts {
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> http_server::Verification<'a> {
        let (accounts, user, password) =
            (self.accounts.clone(), user.to_owned(), password.to_owned());
        Box::pin(async move {
            // Hashing a password takes tens of milliseconds of a processor by design.
            let name = user.clone();
            let work = move || accounts.verify(&name, &password);
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(found)) => found.map(|found| Identity {
                    user,
                    role: role(found),
                }),
                Ok(Err(error)) => {
                    tracing::error!(%error, "accounts cannot be read; nobody can log in");
                    None
                }
                Err(_) => None,
            }
        })
    }
}

pub(super) fn role(role: accounts::Role) -> cim_broker::Role {
    match role {
        accounts::Role::Administrator => cim_broker::Role::Administrator,
        accounts::Role::Operator => cim_broker::Role::Operator,
        accounts::Role::Viewer => cim_broker::Role::Viewer,
    }
}
