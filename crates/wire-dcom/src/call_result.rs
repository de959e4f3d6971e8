//! `IWbemCallResult` (MS-WMI 3.1.4.7): what becomes of a call that was answered before it was done.

use crate::services::Services;
use crate::session::Session;
use crate::{ids, status, stub};
use async_trait::async_trait;
use dce_rpc::Fault;
use dcom::{HResult, Object, ObjectCall, objref};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;
use uuid::Uuid;

/// What a call gave.
#[derive(Clone)]
pub(crate) enum Outcome {
    /// An object, as the bytes of a reference.
    Object(Arc<[u8]>),
    /// A namespace.
    Services(Session),
}

type End = Option<Result<Outcome, HResult>>;

/// A call that goes on.
pub(crate) struct CallResult {
    end: watch::Receiver<End>,
}

impl CallResult {
    /// Lets a call go on by itself. It does so even when nobody asks for its result any more.
    pub(crate) fn begin(
        call: impl Future<Output = Result<Outcome, HResult>> + Send + 'static,
    ) -> Arc<Self> {
        let (tell, end) = watch::channel(None);
        tokio::spawn(async move {
            let result = call.await;
            tell.send_replace(Some(result));
        });
        Arc::new(CallResult { end })
    }

    /// How the call ended, if it does so in the time that the client gives.
    async fn wait(&self, milliseconds: i32) -> Result<Result<Outcome, HResult>, HResult> {
        let mut end = self.end.clone();
        let ended = async {
            match end.wait_for(Option::is_some).await {
                Ok(end) => end.clone().unwrap_or(Err(status::FAILED)),
                // The task broke off.
                Err(_) => Err(status::FAILED),
            }
        };
        match stub::patience(milliseconds)? {
            None => Ok(ended.await),
            Some(patience) => match tokio::time::timeout(patience, ended).await {
                Ok(ended) => Ok(ended),
                Err(_) => Err(status::TIMED_OUT),
            },
        }
    }
}

#[async_trait]
impl Object for CallResult {
    fn interfaces(&self) -> &[Uuid] {
        &[ids::CALL_RESULT]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        if !(3..=6).contains(&call.opnum) {
            return Err(Fault::OPERATION_RANGE);
        }
        let end = self.wait(call.arguments.i32()?).await;
        // What the client asked for is not what this call gives.
        let other = Err(status::INVALID_OPERATION);
        let outcome = end.and_then(|ended| ended);
        match call.opnum {
            // GetResultObject([in] long lTimeout, [out] IWbemClassObject **)
            3 => {
                let object = match outcome {
                    Ok(Outcome::Object(object)) => Ok(object),
                    Ok(Outcome::Services(_)) => other,
                    Err(error) => Err(error),
                };
                objref::write_interface_pointer(&mut call.results, object.as_deref().ok());
                Ok(object.err().unwrap_or(HResult::OK))
            }
            // GetResultString([in] long lTimeout, [out] BSTR *): the paths of objects that were put
            4 => {
                call.results.null();
                Ok(outcome.err().unwrap_or(status::INVALID_OPERATION))
            }
            // GetResultServices([in] long lTimeout, [out] IWbemServices **)
            5 => {
                let services = match outcome {
                    Ok(Outcome::Services(session)) => {
                        call.export(Arc::new(Services::new(session)), ids::SERVICES)
                    }
                    Ok(Outcome::Object(_)) => Err(status::INVALID_OPERATION),
                    Err(error) => Err(error),
                };
                Ok(call.put_interface(services))
            }
            // GetCallStatus([in] long lTimeout, [out] long *plStatus)
            _ => {
                let (told, result) = match outcome {
                    Ok(_) => (HResult::OK, HResult::OK),
                    Err(status::TIMED_OUT) => (HResult::OK, status::TIMED_OUT),
                    Err(error) => (error, HResult::OK),
                };
                call.results.u32(told.0);
                Ok(result)
            }
        }
    }
}
