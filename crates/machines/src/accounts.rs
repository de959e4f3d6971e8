//! Accounts: who may do what, and how they prove who they are. Works on the catalog alone, whether
//! or not a service runs.

mod certificates;

pub use certificates::{AccountCertificate, Holder};

use crate::catalog::{CatalogError, FILE_NAME, open_connection};
use crate::error::Error;
use crate::lock;
use crate::model::Timestamp;
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The longest account name, in characters.
pub const LONGEST_NAME: usize = 64;
/// The longest password, in bytes.
pub const LONGEST_PASSWORD: usize = 1024;
/// Verified passwords that are remembered, so that a client that sends its password with every
/// request does not cost a slow hash each time.
const REMEMBERED: usize = 256;
/// Stands in the catalog where the hash of a password would, and is no hash of any.
const NO_PASSWORD: &str = "";

/// What an account may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Administrator,
    /// Everything but accounts and definitions of machines.
    Operator,
    /// Reading.
    Viewer,
}

impl Role {
    /// The word that is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Administrator => "administrator",
            Role::Operator => "operator",
            Role::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no role; there are administrator, operator and viewer.")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Role, UnknownRole> {
        [Role::Administrator, Role::Operator, Role::Viewer]
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| UnknownRole(text.chars().take(64).collect()))
    }
}

/// An account, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Its name, in the case it was added in; looked up ignoring case.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether it has a password.
    pub password: bool,
    /// Whether it may use NTLM.
    pub ntlm: bool,
    /// The fingerprints of its certificates.
    pub certificates: Vec<String>,
    /// When it was added.
    #[serde(skip)]
    pub created: Timestamp,
}

/// Why something about an account was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AccountError {
    #[error(
        "The account name is not acceptable: 1 to {LONGEST_NAME} characters, no colon, no \
         backslash, no control character."
    )]
    InvalidName,
    #[error("The password is empty or longer than {LONGEST_PASSWORD} bytes.")]
    InvalidPassword,
    #[error("There is an account {0} already.")]
    Exists(String),
    #[error("There is no account {0}.")]
    NoSuchAccount(String),
    #[error("The account would have neither password nor certificate, and nobody could log on.")]
    NoCredentials,
    #[error("The certificate {fingerprint} is that of the account {account} already.")]
    CertificateInUse {
        fingerprint: String,
        account: String,
    },
    #[error("The account {account} has no certificate {fingerprint}.")]
    NoSuchCertificate {
        account: String,
        fingerprint: String,
    },
    #[error("The password could not be hashed: {0}.")]
    Hash(String),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Directory(#[from] Box<Error>),
}

/// The accounts of a data directory. Calls block (a password costs some tens of milliseconds).
pub struct Accounts {
    connection: Mutex<Connection>,
    remembered: Mutex<HashMap<String, Remembered>>,
    /// Keys the fingerprints of remembered passwords; new in every process.
    fingerprint: RandomState,
    /// Hashed against when there is no such account, so that names cannot be told by time.
    decoy: String,
}

#[derive(Clone, Copy)]
struct Remembered {
    fingerprint: [u64; 2],
    role: Role,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Accounts")
    }
}

impl Accounts {
    /// Opens the accounts of a data directory, making it if needed.
    pub fn open(data_dir: &Path) -> Result<Accounts, AccountError> {
        lock::prepare(data_dir).map_err(Box::new)?;
        let connection = open_connection(&data_dir.join(FILE_NAME))?;
        Ok(Accounts {
            connection: Mutex::new(connection),
            remembered: Mutex::default(),
            fingerprint: RandomState::new(),
            decoy: hash("decoy")?,
        })
    }

    /// Adds an account with a password, certificates, or both. `nt_hash`, in hexadecimal, only if it
    /// may use NTLM.
    pub fn add(
        &self,
        name: &str,
        role: Role,
        password: Option<&str>,
        nt_hash: Option<&str>,
        certificates: &[AccountCertificate],
    ) -> Result<(), AccountError> {
        check_name(name)?;
        let verifier = match password {
            Some(password) => checked_hash(password)?,
            None if certificates.is_empty() => return Err(AccountError::NoCredentials),
            None => NO_PASSWORD.to_owned(),
        };
        let mut db = self.db();
        let transaction = begin(&mut db)?;
        let added = transaction
            .execute(
                "INSERT INTO accounts (name_folded, name, role, verifier, nt_hash, created)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name_folded) DO NOTHING",
                rusqlite::params![
                    name.to_lowercase(),
                    name,
                    role.as_str(),
                    verifier,
                    nt_hash,
                    Timestamp::now().0
                ],
            )
            .map_err(failed)?;
        if added == 0 {
            return Err(AccountError::Exists(name.to_owned()));
        }
        for certificate in certificates {
            certificates::put(&transaction, name, certificate)?;
        }
        transaction.commit().map_err(failed)
    }

    /// All accounts, by name.
    pub fn list(&self) -> Result<Vec<Account>, AccountError> {
        let db = self.db();
        let mut statement = db
            .prepare(
                "SELECT name, role, verifier != ?1, nt_hash IS NOT NULL, created FROM accounts
                 ORDER BY name_folded",
            )
            .map_err(failed)?;
        let rows = statement
            .query_map([NO_PASSWORD], |r| {
                Ok((
                    r.get::<_, String>(0)?,
                    r.get::<_, String>(1)?,
                    r.get(2)?,
                    r.get(3)?,
                    r.get(4)?,
                ))
            })
            .map_err(failed)?;
        let mut accounts = Vec::new();
        for row in rows {
            let (name, role, password, ntlm, created) = row.map_err(failed)?;
            let certificates = certificates::of(&db, &name)?.into_iter();
            accounts.push(Account {
                name,
                role: read_role(&role)?,
                password,
                ntlm,
                certificates: certificates.map(|it| it.fingerprint).collect(),
                created: Timestamp(created),
            });
        }
        Ok(accounts)
    }

    /// Removes an account with its certificates.
    pub fn remove(&self, name: &str) -> Result<(), AccountError> {
        let sql = "DELETE FROM accounts WHERE name_folded = ?1";
        let gone = self
            .db()
            .execute(sql, [name.to_lowercase()])
            .map_err(failed)?;
        self.found(name, gone)
    }

    /// Changes a password; and the NT hash, which must not outlive the password.
    pub fn set_password(
        &self,
        name: &str,
        password: &str,
        nt_hash: Option<&str>,
    ) -> Result<(), AccountError> {
        let verifier = checked_hash(password)?;
        let sql = "UPDATE accounts SET verifier = ?2, nt_hash = ?3 WHERE name_folded = ?1";
        let changed = self
            .db()
            .execute(
                sql,
                rusqlite::params![name.to_lowercase(), verifier, nt_hash],
            )
            .map_err(failed)?;
        self.found(name, changed)
    }

    /// The role of the account, if the password is right.
    pub fn verify(&self, name: &str, password: &str) -> Result<Option<Role>, AccountError> {
        let folded = name.to_lowercase();
        let row: Option<(String, String)> = self
            .db()
            .query_row(
                "SELECT verifier, role FROM accounts WHERE name_folded = ?1",
                [&folded],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .optional()
            .map_err(failed)?;
        let row = row.filter(|(verifier, _)| verifier != NO_PASSWORD);
        let known = row.is_some();
        let (verifier, role) = row.unwrap_or_else(|| (self.decoy.clone(), String::new()));
        if password.len() > LONGEST_PASSWORD {
            return Ok(None);
        }
        // The verifier is part of the fingerprint: a changed password is not remembered.
        let fingerprint = self.fingerprint(&folded, &verifier, password);
        let remembered = self.memory().get(&folded).copied();
        if let Some(there) = remembered.filter(|r| known && r.fingerprint == fingerprint)
            && there.role == read_role(&role)?
        {
            return Ok(Some(there.role));
        }
        let parsed = PasswordHash::new(&verifier).map_err(|e| AccountError::Hash(e.to_string()))?;
        let right = Argon2::default()
            .verify_password(password.as_bytes(), &parsed)
            .is_ok();
        if !right || !known {
            return Ok(None);
        }
        let role = read_role(&role)?;
        let mut memory = self.memory();
        if memory.len() >= REMEMBERED {
            memory.clear();
        }
        memory.insert(folded, Remembered { fingerprint, role });
        Ok(Some(role))
    }

    /// Name, as it was added, and NT hash of an account that may use NTLM.
    pub fn nt_hash(&self, name: &str) -> Result<Option<(String, String)>, AccountError> {
        self.db()
            .query_row(
                "SELECT name, nt_hash FROM accounts WHERE name_folded = ?1 AND nt_hash IS NOT NULL",
                [name.to_lowercase()],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .optional()
            .map_err(failed)
    }

    /// The role of an account. Some wires ask for every request.
    pub fn role(&self, name: &str) -> Result<Option<Role>, AccountError> {
        let sql = "SELECT role FROM accounts WHERE name_folded = ?1";
        let db = self.db();
        let role: Option<String> = db
            .prepare_cached(sql)
            .and_then(|mut it| it.query_row([name.to_lowercase()], |r| r.get(0)).optional())
            .map_err(failed)?;
        role.map(|role| read_role(&role)).transpose()
    }

    fn found(&self, name: &str, rows: usize) -> Result<(), AccountError> {
        self.memory().remove(&name.to_lowercase());
        match rows {
            0 => Err(AccountError::NoSuchAccount(
                name.chars().take(LONGEST_NAME).collect(),
            )),
            _ => Ok(()),
        }
    }

    /// Two keyed 64-bit hashes: enough that nobody finds another password with the same ones
    /// without the key, which never leaves this process.
    fn fingerprint(&self, name: &str, verifier: &str, password: &str) -> [u64; 2] {
        let one = |salt: u8| self.fingerprint.hash_one((salt, name, verifier, password));
        [one(0), one(1)]
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins what takes effect together or not at all. It waits for its turn to write at once: later,
/// a database that has changed meanwhile would refuse.
fn begin(db: &mut Connection) -> Result<Transaction<'_>, AccountError> {
    db.transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)
}

fn check_name(name: &str) -> Result<(), AccountError> {
    let good = !name.trim().is_empty()
        && name.trim() == name
        && name.chars().count() <= LONGEST_NAME
        && !name
            .chars()
            .any(|c| c.is_control() || c == ':' || c == '\\');
    if good {
        Ok(())
    } else {
        Err(AccountError::InvalidName)
    }
}

fn checked_hash(password: &str) -> Result<String, AccountError> {
    if password.is_empty() || password.len() > LONGEST_PASSWORD {
        return Err(AccountError::InvalidPassword);
    }
    hash(password)
}

fn hash(password: &str) -> Result<String, AccountError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|e| AccountError::Hash(e.to_string()))
}

fn read_role(text: &str) -> Result<Role, AccountError> {
    text.parse().map_err(|e: UnknownRole| {
        AccountError::Catalog(CatalogError::Damaged {
            table: "accounts",
            reason: e.to_string(),
        })
    })
}

fn failed(source: rusqlite::Error) -> AccountError {
    AccountError::Catalog(CatalogError::Storage {
        doing: "asked for accounts",
        source: source.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_verified_and_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        accounts
            .add("Alice", Role::Operator, Some("first"), None, &[])
            .unwrap();
        assert_eq!(
            accounts.verify("alice", "first").unwrap(),
            Some(Role::Operator)
        );
        assert_eq!(
            accounts.verify("ALICE", "first").unwrap(),
            Some(Role::Operator)
        );
        assert_eq!(accounts.verify("alice", "wrong").unwrap(), None);
        assert_eq!(accounts.verify("bob", "first").unwrap(), None);
        // Another process changes it: what was remembered here is worth nothing.
        let elsewhere = Accounts::open(dir.path()).unwrap();
        elsewhere.set_password("alice", "second", None).unwrap();
        assert_eq!(accounts.verify("alice", "first").unwrap(), None);
        assert_eq!(
            accounts.verify("alice", "second").unwrap(),
            Some(Role::Operator)
        );
        elsewhere.remove("alice").unwrap();
        assert_eq!(accounts.verify("alice", "second").unwrap(), None);
    }

    #[test]
    fn an_nt_hash_is_there_only_if_it_was_asked_for_and_goes_with_its_password() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        accounts
            .add("a", Role::Viewer, Some("x"), None, &[])
            .unwrap();
        accounts
            .add("Bob", Role::Operator, Some("x"), Some("0123"), &[])
            .unwrap();
        assert_eq!(accounts.nt_hash("a").unwrap(), None);
        let of_bob = Some(("Bob".to_owned(), "0123".to_owned()));
        assert_eq!(accounts.nt_hash("bob").unwrap(), of_bob);
        assert_eq!(accounts.role("BOB").unwrap(), Some(Role::Operator));
        assert_eq!(accounts.role("c").unwrap(), None);
        accounts.set_password("bob", "y", None).unwrap();
        assert_eq!(accounts.nt_hash("bob").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        for name in ["", " ", "a:b", "a\\b", "a\nb", " a"] {
            let refused = accounts.add(name, Role::Viewer, Some("x"), None, &[]);
            assert!(
                matches!(refused, Err(AccountError::InvalidName)),
                "{name:?}"
            );
        }
        let refused = accounts.add("a", Role::Viewer, Some(""), None, &[]);
        assert!(matches!(refused, Err(AccountError::InvalidPassword)));
        accounts
            .add("a", Role::Viewer, Some("x"), None, &[])
            .unwrap();
        let refused = accounts.add("A", Role::Viewer, Some("x"), None, &[]);
        assert!(matches!(refused, Err(AccountError::Exists(_))));
        assert!(matches!(
            accounts.remove("b"),
            Err(AccountError::NoSuchAccount(_))
        ));
        assert_eq!(accounts.list().unwrap().len(), 1);
        assert!(accounts.verify("a", &"x".repeat(5000)).unwrap().is_none());
    }

    #[test]
    fn the_catalog_does_not_hold_passwords() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        accounts
            .add("a", Role::Viewer, Some("correct horse"), None, &[])
            .unwrap();
        drop(accounts);
        let bytes = std::fs::read(dir.path().join(FILE_NAME)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("$argon2id$") && !text.contains("correct horse"));
    }
}
