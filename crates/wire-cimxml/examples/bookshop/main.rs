//! Serves a bookshop over CIM-XML, to try clients on: `cargo run -p wire-cimxml --example bookshop
//! [ADDRESS]`. The account is `reader` with the password `secret`.

mod model;

use cim_broker::Role;
use cim_broker::enumeration::Enumerations;
use http_server::{Authenticator, Identity, Listen, Verification};
use std::sync::Arc;
use wire_cimxml::{Server, ServerConfig};

struct OneAccount;

impl Authenticator for OneAccount {
    fn verify<'a>(&'a self, user: &'a str, password: &'a str) -> Verification<'a> {
        Box::pin(async move {
            (user == "reader" && password == "secret").then(|| Identity {
                user: user.to_owned(),
                role: Role::Administrator,
            })
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:5988".to_owned());
    let config = ServerConfig {
        listeners: vec![Listen::Plain(address.parse()?)],
        limits: Default::default(),
        authenticator: Arc::new(OneAccount),
        realm: "bookshop".to_owned(),
    };
    let broker = Arc::new(model::broker());
    let server = Server::bind(config, broker, Arc::new(Enumerations::default())).await?;
    for address in server.local_addresses() {
        println!("listening on {address}");
    }
    std::future::pending::<()>().await;
    Ok(())
}
