//! `IWbemWCOSmartEnum` (MS-WMI 3.1.4.6): results in packets that hold the class part of each class
//! only once.

use crate::enumerator::{LARGEST_ANSWER, take};
use crate::feed::{Feed, Item, deadline};
use crate::{ids, stub};
use async_trait::async_trait;
use dce_rpc::Fault;
use dcom::{HResult, Object, ObjectCall};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;
use wmi_object::packet::{Packet, Sent};

/// Proxies of one enumerator whose class parts are remembered. Clients have one; those beyond get
/// every class part anew.
const MOST_PROXIES: usize = 16;

/// The smart form of an enumerator.
pub(crate) struct SmartEnumerator {
    feed: Arc<Feed>,
    /// What each of the client's proxies has been sent.
    sent: Mutex<HashMap<Uuid, Sent>>,
}

impl SmartEnumerator {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        SmartEnumerator {
            feed,
            sent: Mutex::default(),
        }
    }

    /// `Next([in] REFGUID proxyGUID, [in] long lTimeout, [in] ULONG uCount, [out] ULONG
    /// *puReturned, [out] ULONG *pdwBuffSize, [out, size_is(,*pdwBuffSize)] BYTE **pBuffer)`.
    async fn next(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let proxy = call.arguments.uuid()?;
        let patience = stub::patience(call.arguments.i32()?);
        let count = call.arguments.u32()?;
        let mut packet = Packet::new();
        // A copy, so that class parts that do not arrive do not count as sent.
        let mut sent = self.sent().get(&proxy).cloned().unwrap_or_default();
        let result = match patience {
            Ok(patience) => {
                let add = |item: &Item| {
                    self.pack(item, &mut packet, &mut sent)?;
                    Ok(packet.size() < LARGEST_ANSWER)
                };
                take(&self.feed, count, deadline(patience), add).await
            }
            Err(refused) => refused,
        };
        if packet.count() == 0 || result.is_error() {
            call.results.u32(0).u32(0).null();
            return Ok(result);
        }
        let mut known = self.sent();
        if known.len() < MOST_PROXIES || known.contains_key(&proxy) {
            known.insert(proxy, sent);
        }
        drop(known);
        let objects = packet.count();
        let packet = packet.finish();
        call.results.u32(objects).count(packet.len());
        call.results.pointer().counted_bytes(&packet).align(4);
        Ok(result)
    }

    fn pack(&self, item: &Item, packet: &mut Packet, sent: &mut Sent) -> Result<(), HResult> {
        let encoder = &self.feed.encoder;
        match item {
            Item::Instance(instance) => {
                let projection = self.feed.projection.as_deref();
                encoder.pack(packet, instance, projection, sent)?;
            }
            Item::Class(name) => packet.class(&encoder.class_block(name, self.feed.texts)?),
            Item::Block(block) => packet.class(block),
        }
        Ok(())
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<Uuid, Sent>> {
        // The map is whole between any two statements.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Object for SmartEnumerator {
    fn interfaces(&self) -> &[Uuid] {
        &[ids::SMART]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match call.opnum {
            3 => self.next(call).await,
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}
