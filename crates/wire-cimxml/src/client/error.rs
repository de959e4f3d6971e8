//! What can go wrong between asking and being answered.

use cim::CimError;
use cim_xml::XmlError;
use std::io;
use std::time::Duration;

/// An operation that was not answered, or answered with an error.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server's answer is an error of CIM.
    #[error("{0}")]
    Cim(#[from] CimError),
    /// The URL is not one of a CIM server.
    #[error("{url:?} is not the address of a server: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The certificates to trust cannot be used.
    #[error("the trusted certificate cannot be used: {reason}")]
    Trust {
        /// Why.
        reason: String,
    },
    /// Nothing answers at the address.
    #[error("cannot connect to {address}; is the service running there?")]
    Connect {
        /// Host and port, or the path of a socket.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS handshake failed: most often the certificate is not one that is trusted.
    #[error("no secure connection to {address}: {source}")]
    Tls {
        /// Host and port.
        address: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// No answer in time.
    #[error("no answer within {} seconds", after.as_secs())]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The account or its password is wrong.
    #[error("the server does not accept this account and password")]
    Unauthorized,
    /// The server refused the request before looking at the operation.
    #[error("the server refused the request with HTTP status {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The `CIMError` token or the server's sentence.
        text: String,
    },
    /// The answer is longer than is believable.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// How much is taken in.
        limit: usize,
    },
    /// The answer is not CIM-XML.
    #[error("the answer cannot be read: {0}")]
    Unreadable(#[from] XmlError),
    /// The answer is CIM-XML, but not an answer to what was asked.
    #[error("the server answered something else than was asked ({asked})")]
    Unexpected {
        /// What was asked.
        asked: String,
    },
}

impl ClientError {
    pub(super) fn unexpected(asked: &str) -> Self {
        ClientError::Unexpected {
            asked: asked.to_owned(),
        }
    }
}
