//! The server as clients meet it, over real sockets. The shop is the one of wire-cimxml's tests, so
//! that both wires show the same objects.

#[path = "../../../wire-cimxml/examples/bookshop/model.rs"]
mod model;

mod calls;
mod certificates;
mod classes;
mod driver;
mod enumerations;
mod events;
mod faults;
mod logons;
mod seeds;
mod support;
