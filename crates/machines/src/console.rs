//! A machine's screen and keyboard, as callers reach them.

use crate::error::Error;
use crate::ids::MachineId;
use crate::machines::Machines;
use crate::owner::{Answer, Request};
use crate::request::Actor;
pub use qemu::console::{KeyEvent, Picture};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Keys of one call: more would overrun the buffer of the guest's keyboard.
pub const MOST_KEYS: usize = 16;

/// Width and height of screens, as the last picture of each showed them.
#[derive(Debug, Default)]
pub(crate) struct Screens(Mutex<HashMap<MachineId, (usize, usize)>>);

impl Screens {
    fn seen(&self, id: MachineId, picture: &Picture, exists: impl Fn(MachineId) -> bool) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !map.contains_key(&id) {
            map.retain(|id, _| exists(*id));
        }
        map.insert(id, (picture.width, picture.height));
    }

    fn size(&self, id: MachineId) -> Option<(usize, usize)> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(&id).copied()
    }
}

impl Machines {
    /// Pixels in a line and lines of a machine's screen when a picture of it was last taken; nothing
    /// before the first. QEMU tells the size with a picture only, so readers do not learn of a change
    /// at once.
    pub fn screen_size(&self, id: MachineId) -> Option<(usize, usize)> {
        self.host().screens.size(id)
    }

    /// What is on the screen of a machine that has a process.
    pub async fn picture(&self, actor: &Actor, id: MachineId) -> Result<Picture, Error> {
        match self.ask(actor, id, Request::Picture).await? {
            Answer::Picture(picture) => {
                let exists = |id| self.machine(id).is_some();
                self.host().screens.seen(id, &picture, exists);
                Ok(*picture)
            }
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
