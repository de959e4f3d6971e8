//! `account ...`: works on the data directory, whether or not the service runs.

use super::certificate;
use crate::cli::{Account, Format, Global, Role};
use crate::failure::{Failure, chain};
use crate::output::Rows;
use machines::accounts::{self, Accounts};
use serde_json::{Map, json};
use std::path::Path;

/// Runs one `account` command.
pub fn run(global: &Global, command: &Account) -> Result<(), Failure> {
    let data_dir = std::path::absolute(&global.data_dir).map_err(|error| {
        Failure::usage(format!("--data-dir {}: {error}", global.data_dir.display()))
    })?;
    let accounts = Accounts::open(&data_dir).map_err(|error| failed(&error))?;
    match command {
        Account::Add {
            name,
            role,
            password_file,
            certificate,
            ntlm,
        } => {
            let password = password_file.as_deref().map(password).transpose()?;
            let hash = password.as_deref().filter(|_| *ntlm).map(nt_hash);
            let certificates = certificate.iter().map(|file| certificate::read(file));
            let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
            accounts
                .add(
                    name,
                    role_of(*role),
                    password.as_deref(),
                    hash.as_deref(),
                    &certificates,
                )
                .map_err(|error| failed(&error))
        }
        Account::List => {
            let mut rows = Rows::new(&[
                ("name", "NAME"),
                ("role", "ROLE"),
                ("password", "PASSWORD"),
                ("ntlm", "NTLM"),
                ("certificates", "CERTIFICATES"),
            ]);
            for account in accounts.list().map_err(|error| failed(&error))? {
                let mut row = Map::new();
                row.insert("name".into(), json!(account.name));
                row.insert("role".into(), json!(account.role.to_string()));
                row.insert("password".into(), json!(account.password));
                row.insert("ntlm".into(), json!(account.ntlm));
                let certificates = match global.format {
                    Format::Json => json!(account.certificates),
                    _ => json!(account.certificates.len()),
                };
                row.insert("certificates".into(), certificates);
                rows.push(row);
            }
            rows.print(global.format)
        }
        Account::Remove { name } => accounts.remove(name).map_err(|error| failed(&error)),
        Account::Passwd {
            name,
            password_file,
            ntlm,
            no_ntlm,
        } => {
            let password = password(password_file)?;
            let had = accounts.nt_hash(name).map_err(|error| failed(&error))?;
            let keeps = *ntlm || (had.is_some() && !no_ntlm);
            let hash = keeps.then(|| nt_hash(&password));
            accounts
                .set_password(name, &password, hash.as_deref())
                .map_err(|error| failed(&error))
        }
        Account::Certificate { name, add, remove } => {
            let added = add.iter().map(|file| certificate::read(file));
            for certificate in added.collect::<Result<Vec<_>, _>>()? {
                let done = accounts.add_certificate(name, &certificate);
                done.map_err(|error| failed(&error))?;
            }
            for fingerprint in remove {
                let done = accounts.remove_certificate(name, &fingerprint.to_string());
                done.map_err(|error| failed(&error))?;
            }
            let all = accounts.certificates(name);
            certificate::print(global.format, &all.map_err(|error| failed(&error))?)
        }
    }
}

fn failed(error: &accounts::AccountError) -> Failure {
    Failure::new(chain(error))
}

/// The NT hash of a password, in hexadecimal.
fn nt_hash(password: &str) -> String {
    let hash = ntlm::NtHash::of_password(password);
    let digits = hash.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

fn role_of(role: Role) -> accounts::Role {
    match role {
        Role::Administrator => accounts::Role::Administrator,
        Role::Operator => accounts::Role::Operator,
        Role::Viewer => accounts::Role::Viewer,
    }
}

/// The first line of a password file. Its size is bounded, so that a wrong file is no trouble.
pub fn password(file: &Path) -> Result<String, Failure> {
    use std::io::Read;
    const MOST: u64 = 4096;
    let wrong = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MOST).read_to_string(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(wrong(
            "the first line is empty; it must be the password.".to_owned(),
        ));
    }
    Ok(password.to_owned())
}
