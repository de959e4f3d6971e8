//! `account ...`: works on the data directory, whether or not the service runs.

use crate::cli::{Account, Global, Role};
use crate::failure::{Failure, chain};
use crate::output::Rows;
use machines::accounts::{self, Accounts};
use serde_json::{Map, json};
use std::path::Path;

/// Runs one `account` command.
pub fn run(global: &Global, command: &Account) -> Result<(), Failure> {
    let accounts = Accounts::open(&global.data_dir).map_err(|error| failed(&error))?;
    match command {
        Account::Add {
            name,
            role,
            password_file,
        } => {
            let password = password(password_file)?;
            accounts
                .add(name, role_of(*role), &password, None)
                .map_err(|error| failed(&error))
        }
        Account::List => {
            let mut rows = Rows::new(&[("name", "NAME"), ("role", "ROLE")]);
            for account in accounts.list().map_err(|error| failed(&error))? {
                let mut row = Map::new();
                row.insert("name".into(), json!(account.name));
                row.insert("role".into(), json!(account.role.to_string()));
                rows.push(row);
            }
            rows.print(global.format)
        }
        Account::Remove { name } => accounts.remove(name).map_err(|error| failed(&error)),
        Account::Passwd {
            name,
            password_file,
        } => {
            let password = password(password_file)?;
            accounts
                .set_password(name, &password, None)
                .map_err(|error| failed(&error))
        }
    }
}

fn failed(error: &accounts::AccountError) -> Failure {
    Failure::new(chain(error))
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
