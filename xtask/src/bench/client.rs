//! As little client as it takes, for each wire: requests as bytes over one connection that is kept and
//! logged on to once, answers searched for the few things that matter. So what is measured is mostly
//! the service.

mod cim_xml;
mod dcom;
mod http;
mod name;
mod ws_man;

use std::time::Duration;

pub use cim_xml::CimXml;
pub use dcom::{Dcom, Level, Logon, objects, parameters, reference};
pub use http::Connection;
pub use name::InstanceName;
pub use ws_man::WsMan;

/// No answer takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What an enumeration came to.
pub struct Enumerated {
    pub objects: usize,
    pub first: Duration,
}

/// What stands between two texts.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close)?.0)
}
