//! What the object model promises, shown through its public interface.

mod datetime;
mod instance;
mod mof;
mod path;
mod value;
mod wql;
