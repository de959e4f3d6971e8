//! A guest's screen and keyboard: a picture of the one, keys pressed on the other.
//!
//! Not here: what a key is called on any keyboard but QEMU's own (`msvm` translates).

use crate::process::ProcessError;
use crate::{Process, qmp::QmpError};
use serde_json::json;
use std::io;
use std::path::PathBuf;

/// The widest and the tallest picture that is read.
const MOST_PIXELS_A_SIDE: usize = 16_384;
/// The largest file that is read: as many bytes as a picture of 8192 by 4096 pixels has.
const MOST_BYTES: u64 = 96 << 20;

/// A picture of a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a line; at least 1.
    pub width: usize,
    /// Lines; at least 1.
    pub height: usize,
    /// Red, green and blue of each pixel, line by line from the top.
    pub rgb: Vec<u8>,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// QEMU did not write one.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It cannot be read.
    #[error("the picture of the screen {path}: {source}")]
    File {
        /// Where QEMU wrote it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What QEMU wrote is no picture.
    #[error("the picture of the screen cannot be understood: {0}")]
    Malformed(&'static str),
}

/// Reads a picture in the form "raw PPM" (`P6`), 8 bits a colour.
pub fn parse_ppm(bytes: &[u8]) -> Result<Picture, ScreenError> {
    let malformed = ScreenError::Malformed;
    let rest = bytes.strip_prefix(b"P6");
    let mut rest = rest.ok_or(malformed("it is no raw PPM"))?;
    let mut number = || {
        let (number, after) = number(rest).ok_or(malformed("a number is missing"))?;
        rest = after;
        Ok::<usize, ScreenError>(number)
    };
    let (width, height, most) = (number()?, number()?, number()?);
    if most != 255 {
        return Err(malformed("its colours do not have 8 bits"));
    }
    let fits = |side| (1..=MOST_PIXELS_A_SIDE).contains(&side);
    if !fits(width) || !fits(height) {
        return Err(malformed("its size is not one of a screen"));
    }
    // One white space character, then the pixels.
    let pixels = rest.get(1..).unwrap_or_default();
    let length = width
        .checked_mul(height)
        .and_then(|count| count.checked_mul(3));
    let length = length.ok_or(malformed("its size is not one of a screen"))?;
    let rgb = pixels.get(..length).ok_or(malformed("it is cut off"))?;
    Ok(Picture {
        width,
        height,
        rgb: rgb.to_vec(),
    })
}

/// The next number of a header, after white space and comments, and what follows it.
fn number(mut text: &[u8]) -> Option<(usize, &[u8])> {
    loop {
        match text.first()? {
            b'#' => {
                let end = text.iter().position(|byte| *byte == b'\n')?;
                text = text.get(end..)?;
            }
            byte if byte.is_ascii_whitespace() => text = text.get(1..)?,
            _ => break,
        }
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    // Six digits hold any size that is allowed.
    let number = (1..=6).contains(&digits).then_some(number)?;
    Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
}

/// A key that goes down or up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// QEMU's number of the key: its code in set 1, and 0x80 more if it has the prefix E0.
    pub key: u8,
    /// Whether it goes down.
    pub down: bool,
}

impl Process {
    /// What is on the screen.
    pub async fn picture(&self) -> Result<Picture, ScreenError> {
        let path = self.run_dir().join("screen.ppm");
        self.screendump(&path).await?;
        let file = path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let length = std::fs::metadata(&file)?.len();
            let bytes = if length > MOST_BYTES {
                Err(io::Error::from(io::ErrorKind::FileTooLarge))
            } else {
                std::fs::read(&file)
            };
            std::fs::remove_file(&file)?;
            bytes
        });
        let read = read
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
        let bytes = read.map_err(|source| ScreenError::File { path, source })?;
        parse_ppm(&bytes)
    }

    /// Lets keys go down and up, in this order.
    pub async fn send_keys(&self, keys: &[KeyEvent]) -> Result<(), QmpError> {
        let events: Vec<_> = keys
            .iter()
            .map(|event| {
                json!({"type": "key", "data": {
                    "down": event.down,
                    "key": {"type": "number", "data": event.key},
                }})
            })
            .collect();
        let arguments = json!({ "events": events });
        self.qmp().execute("input-send-event", arguments).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_read_whatever_its_header_looks_like() {
        let picture = parse_ppm(b"P6\n# made by QEMU\n2 1\n255\nabcdefrest").expect("a picture");
        assert_eq!((picture.width, picture.height), (2, 1));
        assert_eq!(picture.rgb, b"abcdef");
        assert_eq!(
            parse_ppm(b"P6 2 1 255\nabcdef").expect("one").rgb,
            b"abcdef"
        );
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [
            &b""[..],
            b"P5\n2 1\n255\nabcdef",
            b"P6\n2 1\n255\nabcde",
            b"P6\n2 1\n65535\nabcdefabcdef",
            b"P6\n0 1\n255\n",
            b"P6\n99999 99999\n255\n",
            b"P6\n9999999999999999999 1\n255\n",
            b"P6\n2 1",
            b"P6\n#",
        ] {
            assert!(parse_ppm(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_fuzzing_seeds_are_read_without_harm() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fuzz/seeds/screen_picture"
        );
        let mut pictures = 0;
        for seed in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let bytes = std::fs::read(seed.path()).unwrap_or_default();
            for end in 0..=bytes.len() {
                let Ok(picture) = parse_ppm(bytes.get(..end).unwrap_or_default()) else {
                    continue;
                };
                assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
                pictures += usize::from(end == bytes.len());
            }
        }
        assert!(pictures >= 3, "{pictures}");
    }
}
