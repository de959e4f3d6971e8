//! What takes part in a benchmark. Each contender sets up and runs the guest as its own users would.

mod libvirt;
mod rootvirt;

use std::process::Child;

use super::Plan;
use super::guest::Guest;
use crate::{Failure, Outcome};

/// The names, as they are in results.
pub const NAMES: &[&str] = &[rootvirt::NAME, libvirt::INTERNAL];

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    Kvm,
    Tcg,
}

/// What a contender says of its last snapshot by itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claims {
    pub pause_ms: Option<f64>,
    pub durable_ms: Option<f64>,
    pub stored_bytes: Option<f64>,
}

/// Something that takes live snapshots. It has at most one guest at a time.
pub trait Contender {
    fn name(&self) -> &'static str;
    /// Starts the guest; returns when QEMU runs.
    fn start(&mut self, guest: &Guest) -> Outcome;
    /// Takes a snapshot of memory, devices and all disks; returns when the user's command does.
    fn snapshot(&mut self) -> Outcome;
    /// What it says of that.
    fn claims(&mut self) -> Result<Claims, Failure>;
    /// Ends the guest and forgets it and its snapshots.
    fn discard(&mut self) -> Outcome;
}

/// Those that the plan asks for. Ours is the first: what runs its guest runs the others' guests, too.
pub fn wanted(plan: &Plan) -> Result<Vec<Box<dyn Contender>>, Failure> {
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    if is_wanted(plan, rootvirt::NAME) {
        contenders.push(Box::new(rootvirt::Rootvirt::start_service(plan)?));
    }
    if is_wanted(plan, libvirt::INTERNAL) {
        contenders.push(Box::new(libvirt::Internal::new(&plan.scratch)?));
    }
    Ok(contenders)
}

/// Whether the program must be built for it.
pub fn wants_program(plan: &Plan) -> bool {
    is_wanted(plan, rootvirt::NAME)
}

fn is_wanted(plan: &Plan, name: &str) -> bool {
    plan.only.as_deref().is_none_or(|only| only == name)
}

/// A process that ends with its owner.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
