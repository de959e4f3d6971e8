//! The client: one connection to one server, one method for each operation.
//!
//! ```no_run
//! # async fn show() -> Result<(), wire_cimxml::ClientError> {
//! use cim::{Name, Namespace};
//! let client = wire_cimxml::Client::connect_unix("/var/lib/service/run/service.sock").await?;
//! let namespace = Namespace::new("interop");
//! for instance in client.enumerate_instances(&namespace, &Name::new("CIM_Namespace"), None).await? {
//!     println!("{:?}", instance.get("Name"));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A call that fails after it was sent is not sent again: it may have changed something.

mod calls;
mod error;
mod transport;
mod trust;

pub use calls::{Answer, QueryAnswer};
pub use error::ClientError;
pub use trust::Trust;

use cim_xml::request::{IntrinsicCall, ParameterValue, Request, RequestMessage};
use cim_xml::response::{IntrinsicResult, MethodResult, Response, ResponseMessage};
use cim_xml::{Limits, request::MethodCall};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use transport::Transport;

/// How long one operation may take when nothing else is said. Servers answer long work with a job.
const OPERATION_TIME: Duration = Duration::from_secs(60);

/// A connection to a CIM server.
pub struct Client {
    transport: Transport,
    next_id: AtomicU64,
    time: Duration,
}

impl Client {
    /// Connects to `url` (`http://host:port` or `https://host:port`; without a port 5988 or 5989)
    /// as `user`. `trust` says which servers are believed over HTTPS.
    pub async fn connect(
        url: &str,
        user: &str,
        password: &str,
        trust: Trust,
    ) -> Result<Client, ClientError> {
        let transport = Transport::to_url(url, user, password, trust)?;
        Client::over(transport).await
    }

    /// Connects to a server's Unix socket, where the kernel says who we are.
    pub async fn connect_unix(path: impl AsRef<Path>) -> Result<Client, ClientError> {
        Client::over(Transport::to_unix(path.as_ref())).await
    }

    /// Makes the connection now, so that a wrong address shows before anything is asked.
    async fn over(transport: Transport) -> Result<Client, ClientError> {
        transport.connect().await?;
        Ok(Client {
            transport,
            next_id: AtomicU64::new(1),
            time: OPERATION_TIME,
        })
    }

    /// This client with another bound on how long one operation may take.
    #[must_use]
    pub fn with_timeout(mut self, time: Duration) -> Client {
        self.time = time;
        self
    }

    /// Runs an operation of DSP0200 that has no method here.
    pub async fn intrinsic(&self, call: IntrinsicCall) -> Result<IntrinsicResult, ClientError> {
        let wanted = call.operation.clone();
        match self.exchange(Request::Intrinsic(call)).await? {
            (Response::Intrinsic { operation, outcome }, _) if operation == wanted => Ok(outcome?),
            _ => Err(ClientError::unexpected(&wanted)),
        }
    }

    async fn extrinsic(
        &self,
        call: MethodCall,
    ) -> Result<(MethodResult, Option<String>), ClientError> {
        let wanted = call.method.clone();
        match self.exchange(Request::Extrinsic(call)).await? {
            (Response::Extrinsic { method, outcome }, explanation) if method == wanted => {
                Ok((outcome?, explanation))
            }
            _ => Err(ClientError::unexpected(wanted.as_str())),
        }
    }

    async fn exchange(&self, request: Request) -> Result<(Response, Option<String>), ClientError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let headers = transport::CimHeaders::of(&request);
        let text = RequestMessage::single(id.as_str(), request).encode();
        let exchange = self.transport.exchange(headers, text);
        let (body, explanation) = tokio::time::timeout(self.time, exchange)
            .await
            .map_err(|_| ClientError::Timeout { after: self.time })??;
        let message = ResponseMessage::decode(&body, Limits::RESPONSE)?;
        let mut responses = message.responses.into_iter();
        match (responses.next(), responses.next()) {
            (Some(response), None) if message.id == id && !message.batch => {
                Ok((response, explanation))
            }
            _ => Err(ClientError::unexpected("the message")),
        }
    }
}

/// A parameter that is text.
fn text(value: impl ToString) -> ParameterValue {
    ParameterValue::Text(value.to_string())
}
