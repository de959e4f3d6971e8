//! DCOM (MS-DCOM), the server's half: classes that clients activate from afar, objects they call,
//! and the bookkeeping of who still holds what.
//!
//! ```text
//! exporter        Exporter: what a process offers; its two endpoints
//!   activation    port 135: RemoteCreateInstance, RemoteGetClassObject, RemoteActivation
//!     properties  the activation properties inside them
//!   resolver      port 135: IObjectExporter: OXIDs, pings, aliveness
//!   dispatch      the objects' port: which object a call means; IRemUnknown
//! table           objects, their interfaces' IPIDs and references, ping sets, garbage
//! object          Class and Object, which an upper crate implements; ObjectCall
//! objref          object references <-> bytes
//! orpc            what stands before the arguments and results of every call
//! bindings        addresses of this process, as clients are told them
//! ```
//!
//! # How to use it
//!
//! An upper crate implements [`Class`] for what can be activated and [`Object`] for what can be called,
//! and builds an [`Exporter`] with a [`Configuration`] that lists the classes, by CLSID, and all
//! interfaces that any object may have. The exporter gives two endpoints to serve with
//! [`dce_rpc::Server`]: [`Exporter::resolver_endpoint`] belongs on port 135,
//! [`Exporter::object_endpoint`] on any other. [`Exporter::collect_garbage_forever`] is to run beside
//! them.
//!
//! ```no_run
//! use dcom::{Class, Configuration, Exporter, HResult, Object, ObjectCall};
//! use dce_rpc::{Caller, Fault, Limits, Listener, Server};
//! use std::sync::Arc;
//! use uuid::{Uuid, uuid};
//!
//! const CLSID_GREETER: Uuid = uuid!("0b3a9d4e-30a1-4f6f-8c55-2f2a61d50001");
//! const IID_GREETER: Uuid = uuid!("0b3a9d4e-30a1-4f6f-8c55-2f2a61d50002");
//!
//! struct Greeter;
//!
//! #[async_trait::async_trait]
//! impl Object for Greeter {
//!     fn interfaces(&self) -> &[Uuid] {
//!         &[IID_GREETER]
//!     }
//!
//!     async fn call(&self, call: &mut ObjectCall<'_>) -> Result<HResult, Fault> {
//!         match (call.interface, call.opnum) {
//!             // HRESULT Double([in] long value, [out] long *result);
//!             (IID_GREETER, 3) => {
//!                 let value = call.arguments.i32()?;
//!                 call.results.i32(value.wrapping_mul(2));
//!                 Ok(HResult::OK)
//!             }
//!             // HRESULT Another([out] IGreeter **other);
//!             (IID_GREETER, 4) => {
//!                 let reference = call.export(Arc::new(Greeter), IID_GREETER);
//!                 Ok(call.put_interface(reference))
//!             }
//!             _ => Err(Fault::OPERATION_RANGE),
//!         }
//!     }
//! }
//!
//! struct Greeters;
//!
//! #[async_trait::async_trait]
//! impl Class for Greeters {
//!     async fn create(&self, _caller: &Caller) -> Result<Arc<dyn Object>, HResult> {
//!         Ok(Arc::new(Greeter))
//!     }
//! }
//!
//! # async fn start(logons: Arc<spnego::Logons>) -> Result<(), dce_rpc::BindError> {
//! let resolver = Listener::bind(([127, 0, 0, 1], 135).into()).await?;
//! let objects = Listener::bind(([127, 0, 0, 1], 0).into()).await?;
//! let mut configuration = Configuration::new(resolver.address().port(), objects.address().port());
//! configuration.classes.insert(CLSID_GREETER, Arc::new(Greeters));
//! configuration.interfaces.insert(IID_GREETER);
//! let exporter = Exporter::new(configuration);
//! let garbage = tokio::spawn(exporter.clone().collect_garbage_forever());
//! let server = Server::start(
//!     vec![
//!         (resolver, exporter.resolver_endpoint()),
//!         (objects, exporter.object_endpoint()),
//!     ],
//!     logons,
//!     Limits::default(),
//! );
//! # Ok(())
//! # }
//! ```
//!
//! Objects belong to the account that got them; nobody else can call them. An object is dropped when
//! its references are released, when its client has stopped pinging, or, for clients that never
//! ping, some minutes after the connection they used it on has ended.
//!
//! Not here: calls back to clients, custom marshalling of unknown classes, NDR of any interface's
//! arguments but DCOM's own (the upper crate reads and writes them), WMI.
//!
//! Start reading at [`Exporter`], then `dispatch`.

#![forbid(unsafe_code)]

mod activation;
pub mod bindings;
mod dispatch;
mod exporter;
pub mod hresult;
pub mod object;
pub mod objref;
pub mod orpc;
pub mod properties;
mod resolver;
mod table;

pub use exporter::{Configuration, Exporter, TableLimits, Usage};
pub use hresult::HResult;
pub use object::{Class, Object, ObjectCall};
pub use objref::ObjRef;
