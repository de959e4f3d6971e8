//! Tests of the V1 namespace through the crate's public interface.

mod schema;
