//! MOF: parser, printer and the compiled repository of classes (DSP0221).

use crate::{Class, Name};
use std::sync::Arc;

/// The classes of one namespace, resolved: every class with its inherited members, and its
/// subclasses.
#[derive(Debug, Default)]
pub struct Repository {}

impl Repository {
    /// The class called `name`, with inherited properties and methods.
    pub fn class(&self, _name: &Name) -> Option<&Arc<Class>> {
        None
    }
}

impl Repository {
    /// The superclasses of `name`, nearest first.
    pub fn superclasses(&self, _name: &Name) -> std::vec::IntoIter<&Arc<Class>> {
        Vec::new().into_iter()
    }

    /// Whether `class` is `ancestor` or derived from it.
    pub fn is_a(&self, class: &Name, ancestor: &Name) -> bool {
        class == ancestor
    }
}
