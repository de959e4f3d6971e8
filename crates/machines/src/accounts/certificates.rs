//! Certificates of accounts. An account names the very certificates that stand for it, by their
//! fingerprints: no authority is trusted, and none has to be run. What a certificate says of its
//! validity is kept beside it, since the same fingerprint means the same certificate.

use super::{AccountError, Accounts, LONGEST_NAME, Role, begin, failed, read_role};
use crate::model::Timestamp;
use rusqlite::{Connection, OptionalExtension};

/// A certificate of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountCertificate {
    /// SHA-256 of its DER, in lower-case hexadecimal.
    pub fingerprint: String,
    /// What it calls its subject, to tell it from others.
    pub subject: Option<String>,
    /// Since when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// Whom a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The account's name, in the case it was added in.
    pub account: String,
    /// What it may do.
    pub role: Role,
    /// Since when the certificate is valid.
    pub not_before: Timestamp,
    /// Until when the certificate is valid.
    pub not_after: Timestamp,
}

impl Accounts {
    /// Lets a certificate stand for an account.
    pub fn add_certificate(
        &self,
        name: &str,
        certificate: &AccountCertificate,
    ) -> Result<(), AccountError> {
        let mut db = self.db();
        let transaction = begin(&mut db)?;
        stored_name(&transaction, name)?;
        put(&transaction, name, certificate)?;
        transaction.commit().map_err(failed)
    }

    /// Lets a certificate stand for an account no more.
    pub fn remove_certificate(&self, name: &str, fingerprint: &str) -> Result<(), AccountError> {
        let db = self.db();
        let account = stored_name(&db, name)?;
        let sql = "DELETE FROM account_certificates WHERE account = ?1 AND fingerprint = ?2";
        let gone = db.execute(sql, [&name.to_lowercase(), fingerprint]);
        match gone.map_err(failed)? {
            0 => Err(AccountError::NoSuchCertificate {
                account,
                fingerprint: fingerprint.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// The certificates of an account, in the order they were added.
    pub fn certificates(&self, name: &str) -> Result<Vec<AccountCertificate>, AccountError> {
        let db = self.db();
        stored_name(&db, name)?;
        of(&db, name)
    }

    /// Whom a certificate stands for. Its validity is for the caller to judge.
    pub fn holder(&self, fingerprint: &str) -> Result<Option<Holder>, AccountError> {
        let row: Option<(String, String, i64, i64)> = self
            .db()
            .query_row(
                "SELECT accounts.name, accounts.role, not_before, not_after
                 FROM account_certificates JOIN accounts ON account = name_folded
                 WHERE fingerprint = ?1",
                [fingerprint],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
            )
            .optional()
            .map_err(failed)?;
        row.map(|(account, role, not_before, not_after)| {
            Ok(Holder {
                account,
                role: read_role(&role)?,
                not_before: Timestamp(not_before),
                not_after: Timestamp(not_after),
            })
        })
        .transpose()
    }
}

/// The name of an account that there is, as it was added.
fn stored_name(db: &Connection, name: &str) -> Result<String, AccountError> {
    let sql = "SELECT name FROM accounts WHERE name_folded = ?1";
    let found = db.query_row(sql, [name.to_lowercase()], |r| r.get(0));
    let found: Option<String> = found.optional().map_err(failed)?;
    found.ok_or_else(|| AccountError::NoSuchAccount(name.chars().take(LONGEST_NAME).collect()))
}

/// Stores a certificate of an account that there is.
pub(super) fn put(
    db: &Connection,
    name: &str,
    certificate: &AccountCertificate,
) -> Result<(), AccountError> {
    let added = db
        .execute(
            "INSERT INTO account_certificates
                 (fingerprint, account, subject, not_before, not_after, added)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (fingerprint) DO NOTHING",
            rusqlite::params![
                certificate.fingerprint,
                name.to_lowercase(),
                certificate.subject,
                certificate.not_before.0,
                certificate.not_after.0,
                Timestamp::now().0
            ],
        )
        .map_err(failed)?;
    if added > 0 {
        return Ok(());
    }
    let account = db
        .query_row(
            "SELECT accounts.name FROM account_certificates
             JOIN accounts ON account = name_folded WHERE fingerprint = ?1",
            [&certificate.fingerprint],
            |r| r.get(0),
        )
        .map_err(failed)?;
    Err(AccountError::CertificateInUse {
        fingerprint: certificate.fingerprint.clone(),
        account,
    })
}

/// The certificates of an account, in the order they were added.
pub(super) fn of(db: &Connection, name: &str) -> Result<Vec<AccountCertificate>, AccountError> {
    let mut statement = db
        .prepare(
            "SELECT fingerprint, subject, not_before, not_after FROM account_certificates
             WHERE account = ?1 ORDER BY added, fingerprint",
        )
        .map_err(failed)?;
    let rows = statement
        .query_map([name.to_lowercase()], |r| {
            Ok(AccountCertificate {
                fingerprint: r.get(0)?,
                subject: r.get(1)?,
                not_before: Timestamp(r.get(2)?),
                not_after: Timestamp(r.get(3)?),
            })
        })
        .map_err(failed)?;
    rows.collect::<Result<_, _>>().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(fingerprint: &str) -> AccountCertificate {
        AccountCertificate {
            fingerprint: fingerprint.to_owned(),
            subject: Some("a laptop".to_owned()),
            not_before: Timestamp(1),
            not_after: Timestamp(2),
        }
    }

    #[test]
    fn an_account_may_have_certificates_and_no_password() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        let refused = accounts.add("Alice", Role::Viewer, None, None, &[]);
        assert!(matches!(refused, Err(AccountError::NoCredentials)));
        let one = certificate("01");
        accounts
            .add(
                "Alice",
                Role::Viewer,
                None,
                None,
                std::slice::from_ref(&one),
            )
            .unwrap();
        for password in ["", "x"] {
            assert_eq!(accounts.verify("alice", password).unwrap(), None);
        }
        let listed = accounts.list().unwrap();
        assert_eq!(listed[0].certificates, ["01"]);
        assert!(!listed[0].password);
        let holder = Holder {
            account: "Alice".to_owned(),
            role: Role::Viewer,
            not_before: Timestamp(1),
            not_after: Timestamp(2),
        };
        assert_eq!(accounts.holder("01").unwrap(), Some(holder));
        assert_eq!(accounts.certificates("ALICE").unwrap(), [one]);
        // It may get a password, and has both then.
        accounts.set_password("alice", "x", None).unwrap();
        let role = accounts.verify("alice", "x").unwrap();
        assert_eq!(role, Some(Role::Viewer));
        assert!(accounts.list().unwrap()[0].password);
        assert!(accounts.holder("01").unwrap().is_some());
    }

    #[test]
    fn a_certificate_stands_for_one_account_until_it_or_the_account_goes() {
        let dir = tempfile::tempdir().unwrap();
        let accounts = Accounts::open(dir.path()).unwrap();
        for name in ["alice", "bob"] {
            accounts
                .add(name, Role::Operator, Some("x"), None, &[])
                .unwrap();
        }
        let (one, two) = (certificate("01"), certificate("02"));
        accounts.add_certificate("Alice", &one).unwrap();
        accounts.add_certificate("alice", &two).unwrap();
        let refused = accounts.add_certificate("bob", &one).unwrap_err();
        assert!(
            matches!(&refused, AccountError::CertificateInUse { account, .. } if account == "alice"),
            "{refused}"
        );
        // Nothing of an account is there that could not be added whole.
        let refused = accounts.add("carol", Role::Viewer, None, None, &[certificate("03"), two]);
        assert!(matches!(
            refused,
            Err(AccountError::CertificateInUse { .. })
        ));
        assert_eq!(accounts.role("carol").unwrap(), None);
        assert_eq!(accounts.holder("03").unwrap(), None);
        let refused = accounts.add_certificate("carol", &certificate("03"));
        assert!(matches!(refused, Err(AccountError::NoSuchAccount(_))));

        let refused = accounts.remove_certificate("bob", "01");
        assert!(matches!(
            refused,
            Err(AccountError::NoSuchCertificate { .. })
        ));
        // Another process removes one: it holds here, too.
        let elsewhere = Accounts::open(dir.path()).unwrap();
        elsewhere.remove_certificate("ALICE", "01").unwrap();
        assert_eq!(accounts.holder("01").unwrap(), None);
        assert!(accounts.holder("02").unwrap().is_some());
        elsewhere.remove("alice").unwrap();
        assert_eq!(accounts.holder("02").unwrap(), None);
        // Nor does it come back with another account of the name.
        accounts
            .add("alice", Role::Viewer, Some("x"), None, &[])
            .unwrap();
        assert_eq!(accounts.certificates("alice").unwrap(), []);
    }
}
