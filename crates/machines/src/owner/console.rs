//! The screen and the keyboard of a machine that has a process. Both are looked at and used as they
//! are; nothing is recorded.

use super::work::Work;
use super::{Answer, Request};
use crate::error::Error;
use crate::model::State;
use qemu::console::KeyEvent;

fn process(work: &Work, verb: &'static str) -> Result<qemu::Process, Error> {
    if work.guest.is_none() {
        let state = State::from(work.record.body.state);
        return Err(Error::WrongState { state, verb });
    }
    work.process()
}

pub(super) async fn picture(work: &Work) -> Result<Answer, Error> {
    picture_of(&process(work, "show its screen")?).await
}

pub(super) async fn send_keys(work: &Work, keys: &[KeyEvent]) -> Result<Answer, Error> {
    press(&process(work, "take keys")?, keys).await
}

/// The answer to a request for a guest that another operation waits for; none, if it is for something
/// else.
pub(super) async fn beside(
    process: &qemu::Process,
    request: &Request,
) -> Option<Result<Answer, Error>> {
    match request {
        Request::Picture => Some(picture_of(process).await),
        Request::Keys(keys) => Some(press(process, keys).await),
        _ => None,
    }
}

async fn picture_of(process: &qemu::Process) -> Result<Answer, Error> {
    let picture = process.picture().await;
    let picture = picture.map_err(Error::qemu("Taking a picture of the screen"))?;
    Ok(Answer::Picture(Box::new(picture)))
}

async fn press(process: &qemu::Process, keys: &[KeyEvent]) -> Result<Answer, Error> {
    let sent = process.send_keys(keys).await;
    sent.map_err(Error::qemu("Pressing keys"))?;
    Ok(Answer::Done)
}
