//! The door to a service: who knows the accounts, who is told of logons, what slows guessing down.

use crate::negotiation::{Dialect, Negotiation, Refusal};
use crate::throttle::Throttle;
use ntlm::{Acceptor, NtHash, ServerNames};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Who a client claims to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The client's address, as the wire gave it to [`Logons::begin`].
    pub peer: String,
    /// The user, as the client spells it. Windows compares names without case.
    pub user: String,
    /// The user's domain, as the client spells it; often empty or the client's own machine.
    pub domain: String,
    /// What the client calls its machine. Nobody checks it.
    pub workstation: String,
}

/// An account that may log on by NTLM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name, as the service spells it.
    pub name: String,
    /// The hash of its password.
    pub hash: NtHash,
}

/// The answer of [`Accounts::find`], to come.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = Option<Account>> + Send + 'a>>;

/// Knows the accounts.
pub trait Accounts: Send + Sync + 'static {
    /// The account that a client claims to be, if there is one and it may use NTLM.
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a>;
}

/// Is told of every logon that got as far as a name, and of every one that was refused.
pub trait Audit: Send + Sync + 'static {
    /// `account` has logged on.
    fn accepted(&self, attempt: &Attempt, account: &str);

    /// A logon was refused. There is no attempt if the client did not get as far as a name.
    fn refused(&self, peer: &str, attempt: Option<&Attempt>, refusal: &Refusal);
}

/// Logons of one service, on however many wires.
pub struct Logons {
    pub(crate) acceptor: Acceptor,
    pub(crate) accounts: Arc<dyn Accounts>,
    pub(crate) audit: Arc<dyn Audit>,
    pub(crate) throttle: Throttle,
}

impl Logons {
    /// A door that presents itself under `names`.
    pub fn new(names: ServerNames, accounts: Arc<dyn Accounts>, audit: Arc<dyn Audit>) -> Self {
        Logons {
            acceptor: Acceptor::new(names),
            accounts,
            audit,
            throttle: Throttle::default(),
        }
    }

    /// Begins a client's logon. `peer` is its address without a port: failures are counted by it.
    pub fn begin(self: &Arc<Self>, peer: &str, dialect: Dialect) -> Negotiation {
        Negotiation::new(self.clone(), peer.to_owned(), dialect)
    }
}
