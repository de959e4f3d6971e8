//! Logons by NTLM and Negotiate: the door to the accounts of the catalog. Who may log on so has the NT
//! hash of the password there; what an account may do is asked at every request.

use super::authentication::role;
use cim_broker::Role;
use machines::accounts::Accounts;
use ntlm::{NtHash, ServerNames};
use spnego::{Account, Attempt, Audit, Logons, Lookup, Refusal};
use std::sync::Arc;

/// The catalog's accounts, as logons see them.
pub(super) struct Door {
    accounts: Arc<Accounts>,
}

impl Door {
    /// The accounts of a catalog.
    pub(super) fn of(accounts: &Arc<Accounts>) -> Self {
        Door {
            accounts: accounts.clone(),
        }
    }

    /// The accounts behind it.
    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What an account may do; `None` when there is none of this name.
    pub(super) fn role(&self, account: &str) -> Option<Role> {
        match self.accounts.role(account) {
            Ok(found) => found.map(role),
            Err(error) => {
                tracing::error!(%error, "accounts cannot be read; nobody may do anything");
                None
            }
        }
    }
}

/// The door that all wires share: guessing is slowed down whichever one it comes over.
pub(super) fn door(host_name: &str, accounts: &Arc<Accounts>) -> Arc<Logons> {
    let door = Arc::new(Door::of(accounts));
    let names = ServerNames::of_host(host_name);
    Arc::new(Logons::new(names, door.clone(), door))
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
