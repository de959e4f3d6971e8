//! Who a request comes from: the door to the program's accounts, and what slows guessing down.

use crate::limits::HttpLimits;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cim_broker::Role;
use spnego::Throttle;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// An account that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Account name.
    pub user: String,
    /// What it may do.
    pub role: Role,
}

/// The answer of [`Authenticator::verify`], to come.
pub type Verification<'a> = Pin<Box<dyn Future<Output = Option<Identity>> + Send + 'a>>;

/// Knows the accounts.
pub trait Authenticator: Send + Sync + 'static {
    /// The account called `user`, if `password` is its password. Takes as long for an unknown
    /// account as for a wrong password, and does its hashing away from the runtime's threads.
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> Verification<'a>;
}

/// Verifies credentials, a few at a time, and makes a peer that guesses wait.
pub(crate) struct Gate {
    authenticator: Arc<dyn Authenticator>,
    verifications: Semaphore,
    throttle: Throttle,
}

/// Longest credentials that are looked at.
const LONGEST_CREDENTIALS: usize = 1024;

impl Gate {
    pub(crate) fn new(authenticator: Arc<dyn Authenticator>, limits: &HttpLimits) -> Self {
        Gate {
            authenticator,
            verifications: Semaphore::new(limits.verifications.max(1)),
            throttle: Throttle::default(),
        }
    }

    /// Checks the value of an `Authorization` header.
    pub(crate) async fn verify(&self, peer: &str, authorization: &str) -> Option<Identity> {
        let (user, password) = basic(authorization)?;
        let identity = match self.verifications.acquire().await {
            Ok(_permit) => self.authenticator.verify(&user, &password).await,
            Err(_) => None,
        };
        match identity {
            Some(identity) => {
                self.throttle.succeeded(peer);
                Some(identity)
            }
            None => {
                tracing::warn!(peer, user, "authentication failed");
                self.failed(peer).await;
                None
            }
        }
    }

    /// Counts a failure, and waits the longer the more there were.
    pub(crate) async fn failed(&self, peer: &str) {
        let delay = self.throttle.failed(peer);
        tokio::time::sleep(delay).await;
    }
}

/// User and password of `Basic ...`.
fn basic(authorization: &str) -> Option<(String, String)> {
    let (scheme, credentials) = authorization.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || credentials.len() > LONGEST_CREDENTIALS {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    // RFC 7617 leaves the encoding to the client; what is not UTF-8 is taken for Latin-1.
    let text = String::from_utf8(decoded)
        .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect());
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
