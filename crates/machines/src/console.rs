//! A machine's screen and keyboard, as callers reach them.

use crate::error::Error;
use crate::ids::MachineId;
use crate::machines::Machines;
use crate::owner::{Answer, Request};
use crate::request::Actor;
pub use qemu::console::{KeyEvent, Picture};

/// Keys of one call: more would overrun the buffer of the guest's keyboard.
pub const MOST_KEYS: usize = 16;

impl Machines {
    /// What is on the screen of a machine that has a process.
    pub async fn picture(&self, actor: &Actor, id: MachineId) -> Result<Picture, Error> {
        match self.ask(actor, id, Request::Picture).await? {
            Answer::Picture(picture) => Ok(*picture),
            _ => Err(Error::ServiceStopping),
        }
    }

    /// Lets at most [`MOST_KEYS`] keys of a machine that has a process go down and up, in this
    /// order; those beyond are left out.
    pub async fn send_keys(
        &self,
        actor: &Actor,
        id: MachineId,
        mut keys: Vec<KeyEvent>,
    ) -> Result<(), Error> {
        keys.truncate(MOST_KEYS);
        self.ask(actor, id, Request::Keys(keys)).await.map(drop)
    }
}
