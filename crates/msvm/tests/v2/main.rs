//! Tests of the V2 namespace, and of the two namespaces side by side, through the crate's public
//! interface. Some run QEMU, none needs a guest.

mod console;
mod events;
#[path = "../v1/fixture.rs"]
#[allow(dead_code)]
mod fixture;
mod site;
mod snapshots;
mod systems;
mod walk;
