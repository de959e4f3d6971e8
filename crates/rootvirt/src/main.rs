//! rootvirt
fn main() {}
