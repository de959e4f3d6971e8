//! Bodies: a request's, read within its limits or thrown away; an answer's, in chunks when it is
//! long.

use crate::server::Shared;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Response};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// Answers longer than this go out in chunks.
const CHUNK_ABOVE: usize = 4 << 20;
const CHUNK: usize = 256 << 10;
/// How much of a refused body is thrown away so that the sender can read why it was refused, and for
/// how long.
const DISCARD_BYTES: u64 = 128 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It has more bytes than this.
    TooLarge(usize),
    /// It came too slowly.
    TooSlow,
    /// The connection broke, or the chunks were not chunks.
    Unreadable,
    /// There is no memory for it at the moment.
    Busy,
}

/// A body. Its memory counts against the limit for all bodies until this is dropped.
#[derive(Debug)]
pub struct ReceivedBody {
    /// What was sent.
    pub bytes: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Reads a body within its own limit and the one for all bodies together.
pub(crate) async fn read(
    shared: &Shared,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<ReceivedBody, BodyError> {
    let limit = shared.limits.body;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .or(body.size_hint().exact());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLarge(limit));
    }
    let all = async {
        let mut bytes = Vec::new();
        let mut permit: Option<OwnedSemaphorePermit> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| BodyError::Unreadable)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if bytes.len() + data.len() > limit {
                return Err(BodyError::TooLarge(limit));
            }
            let more = u32::try_from(data.len()).map_err(|_| BodyError::TooLarge(limit))?;
            let granted = shared
                .bodies
                .clone()
                .try_acquire_many_owned(more)
                .map_err(|_| BodyError::Busy)?;
            match &mut permit {
                Some(permit) => permit.merge(granted),
                None => permit = Some(granted),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(ReceivedBody {
            bytes,
            _permit: permit,
        })
    };
    match tokio::time::timeout(shared.limits.body_time, all).await {
        Ok(read) => read,
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// Takes in the rest of a refused body without keeping it, so that its sender can read why it was
/// refused; false if there was more than is worth it, and the connection should be closed. Of a
/// stranger's body no more than `most` bytes are worth it.
pub async fn discard(body: &mut Incoming, most: Option<usize>) -> bool {
    let budget = most.map_or(DISCARD_BYTES, |most| most as u64);
    let all = async {
        let mut seen = 0_u64;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            seen += frame.data_ref().map_or(0, |data| data.len() as u64);
            if seen > budget {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIME, all)
        .await
        .unwrap_or(false)
}

/// An answer's body.
pub type AnswerBody = Either<Full<Bytes>, Chunks>;

/// The body of an answer with this content.
pub fn answer_body(content: Bytes) -> AnswerBody {
    if content.len() > CHUNK_ABOVE {
        Either::Right(Chunks { rest: content })
    } else {
        Either::Left(Full::new(content))
    }
}

/// A long text that goes out in chunks. It does not say how long it is, so HTTP/1.1 sends it in
/// chunks of its own.
pub struct Chunks {
    rest: Bytes,
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }
}

/// Sets a header whose name and value are known to be fit for one.
pub fn set_header<B>(answer: &mut Response<B>, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    let value = HeaderValue::from_str(value);
    if let (Ok(name), Ok(value)) = (name, value) {
        answer.headers_mut().insert(name, value);
    }
}
