//! The screen and the keyboard of a machine that has a process. Both are looked at and used as they
//! are; nothing is recorded.

use super::work::Work;
use crate::error::Error;
use crate::model::State;
use qemu::console::{KeyEvent, Picture};

fn process(work: &Work, verb: &'static str) -> Result<qemu::Process, Error> {
    if work.guest.is_none() {
        let state = State::from(work.record.body.state);
        return Err(Error::WrongState { state, verb });
    }
    work.process()
}

pub(super) async fn picture(work: &Work) -> Result<Picture, Error> {
    let process = process(work, "show its screen")?;
    let picture = process.picture().await;
    picture.map_err(Error::qemu("Taking a picture of the screen"))
}

pub(super) async fn send_keys(work: &Work, keys: &[KeyEvent]) -> Result<(), Error> {
    let process = process(work, "take keys")?;
    let sent = process.send_keys(keys).await;
    sent.map_err(Error::qemu("Pressing keys"))
}
