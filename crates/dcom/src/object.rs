//! What an upper crate implements, and what it is given to answer a call.

use crate::exporter::Exporter;
use crate::hresult::HResult;
use crate::objref::{self, ObjRef};
use async_trait::async_trait;
use dce_rpc::ndr::{NdrError, Reader, Writer};
use dce_rpc::{Caller, Fault};
use std::sync::Arc;
use uuid::Uuid;

/// Something that can be activated: makes objects.
#[async_trait]
pub trait Class: Send + Sync + 'static {
    /// Makes an object for a client. Which of its interfaces the client gets is seen to elsewhere.
    async fn create(&self, caller: &Caller) -> Result<Arc<dyn Object>, HResult>;
}

/// Something that clients call. It is dropped when nobody holds a reference any more.
#[async_trait]
pub trait Object: Send + Sync + 'static {
    /// The interfaces it has, without `IUnknown` and `IRemUnknown`, which all have.
    fn interfaces(&self) -> &[Uuid];

    /// Makes a call: reads [`ObjectCall::arguments`], writes [`ObjectCall::results`] (all but the
    /// HRESULT at their end) and gives the HRESULT.
    ///
    /// An operation that the interface does not have is [`Fault::OPERATION_RANGE`]; one that it has,
    /// but that is not done here, writes its empty results and gives
    /// [`HResult::NOT_IMPLEMENTED`]. Arguments that cannot be read become a fault by `?`.
    ///
    /// The future is dropped if the client goes away or cancels the call.
    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault>;
}

/// A call on an object.
pub struct ObjectCall<'a> {
    /// The interface that the call is made on; one of [`Object::interfaces`].
    pub interface: Uuid,
    /// The operation; the first three are `IUnknown`'s and never come here.
    pub opnum: u16,
    /// The arguments. Clients are known to leave bytes behind them.
    pub arguments: Reader<'a>,
    /// The results; what stands before them is written already.
    pub results: Writer,
    /// Who calls.
    pub caller: &'a Caller,
    /// The object.
    pub this: Arc<dyn Object>,
    pub(crate) exporter: &'a Arc<Exporter>,
    pub(crate) oid: u64,
}

impl ObjectCall<'_> {
    /// Gives the caller a reference to an object that it has not had before: the bytes of the
    /// reference.
    ///
    /// [`HResult::NO_INTERFACE`] if the object has no such interface, [`HResult::OUT_OF_MEMORY`] if the
    /// caller holds too many objects.
    pub fn export(&self, object: Arc<dyn Object>, interface: Uuid) -> Result<Vec<u8>, HResult> {
        let reference = self.exporter.export(object, interface, self.caller)?;
        Ok(self.exporter.reference(interface, reference, self.caller))
    }

    /// Gives the caller another reference to the object that is being called.
    pub fn export_this(&self, interface: Uuid) -> Result<Vec<u8>, HResult> {
        let reference = self.exporter.export_again(self.oid, interface)?;
        Ok(self.exporter.reference(interface, reference, self.caller))
    }

    /// Writes an `[out] IFoo **` and gives the HRESULT that goes with it.
    pub fn put_interface(&mut self, reference: Result<Vec<u8>, HResult>) -> HResult {
        match reference {
            Ok(reference) => {
                objref::write_interface_pointer(&mut self.results, Some(&reference));
                HResult::OK
            }
            Err(error) => {
                objref::write_interface_pointer(&mut self.results, None);
                error
            }
        }
    }

    /// Reads an `[in] IFoo *`: the bytes of a reference, or an object by value.
    pub fn take_interface(&mut self) -> Result<Option<ObjRef>, NdrError> {
        match objref::read_interface_pointer(&mut self.arguments)? {
            Some(bytes) => ObjRef::decode(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// The object that a reference of ours means, if the caller may call it.
    pub fn resolve(&self, reference: &ObjRef) -> Option<Arc<dyn Object>> {
        match reference {
            ObjRef::Standard { reference, .. } => {
                self.exporter.resolve(&reference.ipid, self.caller)
            }
            ObjRef::Custom { .. } => None,
        }
    }
}
