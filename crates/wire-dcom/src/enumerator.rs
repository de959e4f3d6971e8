//! `IEnumWbemClassObject` (MS-WMI 3.1.4.4): results, taken by the client as it likes.

use crate::encoder::Encoder;
use crate::feed::{Deadline, Feed, Item, Step, deadline};
use crate::smart::SmartEnumerator;
use crate::{ids, status, stub};
use async_trait::async_trait;
use dce_rpc::Fault;
use dce_rpc::ndr::Writer;
use dcom::{HResult, Object, ObjectCall, objref};
use std::sync::Arc;
use uuid::Uuid;

/// How many bytes of objects one answer holds; a client that asked for more is told to come again.
pub(crate) const LARGEST_ANSWER: usize = 4 << 20;

/// An enumerator: of results or of events.
pub(crate) struct Enumerator {
    feed: Arc<Feed>,
}

impl Enumerator {
    pub(crate) fn new(feed: Arc<Feed>) -> Arc<Self> {
        Arc::new(Enumerator { feed })
    }
}

#[async_trait]
impl Object for Enumerator {
    fn interfaces(&self) -> &[Uuid] {
        &[ids::ENUMERATOR, ids::FETCH_SMART]
    }

    async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        match (call.interface, call.opnum) {
            (ids::ENUMERATOR, 3) => Ok(code(self.feed.reset().await)),
            (ids::ENUMERATOR, 4) => self.next(call).await,
            // NextAsync: would need calls back to the client.
            (ids::ENUMERATOR, 5) => Ok(HResult::NOT_IMPLEMENTED),
            (ids::ENUMERATOR, 6) => {
                let clone = self.feed.fork().await;
                let clone =
                    clone.and_then(|feed| call.export(Enumerator::new(feed), ids::ENUMERATOR));
                Ok(call.put_interface(clone))
            }
            (ids::ENUMERATOR, 7) => self.skip(call).await,
            (ids::FETCH_SMART, 3) => {
                let smart = Arc::new(SmartEnumerator::new(Arc::clone(&self.feed)));
                let reference = call.export(smart, ids::SMART);
                Ok(call.put_interface(reference))
            }
            _ => Err(Fault::OPERATION_RANGE),
        }
    }
}

impl Enumerator {
    /// `Next([in] long lTimeout, [in] ULONG uCount, [out, size_is(uCount),
    /// length_is(*puReturned)] IWbemClassObject **apObjects, [out] ULONG *puReturned)`.
    async fn next(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let patience = stub::patience(call.arguments.i32()?);
        let count = call.arguments.u32()?;
        let mut taken = Vec::new();
        let mut bytes = 0;
        let result = match patience {
            Ok(patience) => {
                let add = |item: &Item| {
                    let reference = reference(&self.feed, item)?;
                    bytes += reference.len();
                    taken.push(reference);
                    Ok(bytes < LARGEST_ANSWER)
                };
                take(&self.feed, count, deadline(patience), add).await
            }
            Err(refused) => refused,
        };
        if result.is_error() {
            taken.clear();
        }
        write_objects(&mut call.results, count, &taken);
        Ok(result)
    }

    /// `Skip([in] long lTimeout, [in] ULONG nCount)`.
    async fn skip(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
        let patience = stub::patience(call.arguments.i32()?);
        let count = call.arguments.u32()?;
        Ok(match patience {
            Ok(patience) => take(&self.feed, count, deadline(patience), |_| Ok(true)).await,
            Err(refused) => refused,
        })
    }
}

/// Takes items from a feed until there are so many, or no more, or `add` says that it is full.
/// Gives S_OK if it took them all, S_FALSE if the feed has ended before, and "timed out" if the rest
/// is to be asked for again.
pub(crate) async fn take(
    feed: &Feed,
    count: u32,
    deadline: Deadline,
    mut add: impl FnMut(&Item) -> Result<bool, HResult>,
) -> HResult {
    let Some(mut turn) = feed.turn(deadline).await else {
        return status::TIMED_OUT;
    };
    for taken in 1..=count {
        let item = match turn.next(deadline).await {
            Ok(Step::Item(item)) => item,
            Ok(Step::End) => return HResult::FALSE,
            Ok(Step::TimedOut) => return status::TIMED_OUT,
            Err(error) => return error,
        };
        match add(&item) {
            Ok(true) => {}
            Ok(false) if taken == count => {}
            Ok(false) => return status::TIMED_OUT,
            Err(error) => return error,
        }
        if taken % 64 == 0 {
            // Encoding takes a while; others want to be served too.
            tokio::task::yield_now().await;
        }
    }
    HResult::OK
}

/// An item as an object by value.
fn reference(feed: &Feed, item: &Item) -> Result<Vec<u8>, HResult> {
    let encoder: &Encoder = &feed.encoder;
    Ok(match item {
        Item::Instance(instance) => {
            wmi_object::objref(&encoder.instance_block(instance, feed.projection.as_deref())?)
        }
        Item::Class(name) => wmi_object::objref(&encoder.class_block(name, feed.texts)?),
        Item::Block(block) => wmi_object::objref(block),
    })
}

/// A conformant varying array of pointers to interfaces, then their number.
fn write_objects(results: &mut Writer, room: u32, objects: &[Vec<u8>]) {
    results.u32(room).u32(0).count(objects.len());
    for _ in objects {
        results.pointer();
    }
    for object in objects {
        objref::write_interface(results, object);
    }
    results.count(objects.len());
}

fn code(result: Result<(), HResult>) -> HResult {
    match result {
        Ok(()) => HResult::OK,
        Err(error) => error,
    }
}
