//! A request whose fragments are coming in.

use super::security::Protection;
use crate::fault::Fault;
use crate::interface::{Caller, Interface, Objects};
use crate::pdu::Request;
use crate::syntax::SyntaxId;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

/// Who will make the call.
#[derive(Clone)]
pub(super) enum Target {
    Interface(Arc<dyn Interface>),
    Object(Arc<dyn Objects>, Uuid),
}

/// What the trailers of all fragments of a request have in common: the security context's number, and
/// the level.
pub(super) type TrailerKind = (u32, u8);

/// A request, as far as it has come.
pub(super) struct Assembly {
    pub(super) call: u32,
    pub(super) context: u16,
    pub(super) opnum: u16,
    pub(super) interface: SyntaxId,
    pub(super) target: Target,
    pub(super) caller: Caller,
    pub(super) protection: Option<Protection>,
    pub(super) stub: Vec<u8>,
    pub(super) since: Instant,
    object: Option<Uuid>,
    trailer: Option<TrailerKind>,
    /// Holds room in the budget of all requests until the call is over.
    room: Option<OwnedSemaphorePermit>,
}

impl Assembly {
    /// From a first fragment, without its stub.
    pub(super) fn new(
        call: u32,
        request: &Request,
        interface: SyntaxId,
        target: Target,
        caller: Caller,
        protection: Option<Protection>,
        trailer: Option<TrailerKind>,
    ) -> Self {
        Assembly {
            call,
            context: request.context,
            opnum: request.opnum,
            interface,
            target,
            caller,
            protection,
            stub: Vec::new(),
            since: Instant::now(),
            object: request.object,
            trailer,
            room: None,
        }
    }

    /// Whether another fragment can belong to the same request.
    pub(super) fn continues(&self, request: &Request, trailer: Option<TrailerKind>) -> bool {
        (self.context, self.opnum, self.object) == (request.context, request.opnum, request.object)
            && self.trailer == trailer
    }

    /// Adds a fragment's stub, within the limit of one request and the budget of all.
    pub(super) fn add(
        &mut self,
        stub: &[u8],
        most: usize,
        budget: &Arc<Semaphore>,
    ) -> Result<(), Fault> {
        if self.stub.len() + stub.len() > most {
            return Err(Fault::REMOTE_NO_MEMORY);
        }
        let bytes = u32::try_from(stub.len()).map_err(|_| Fault::REMOTE_NO_MEMORY)?;
        let more = budget
            .clone()
            .try_acquire_many_owned(bytes)
            .map_err(|_| Fault::SERVER_TOO_BUSY)?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        self.stub.extend_from_slice(stub);
        Ok(())
    }
}
