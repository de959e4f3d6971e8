//! GetVirtualSystemThumbnailImage: the screen of a machine, small, in 16 bits a pixel.

use super::{Answer, Outcome, Refusal};
use crate::errors;
use crate::host::Host;
use crate::subject::{Configuration, Subject};
use cim::Value;
use cim_broker::Arguments;
use machines::console::Picture;
use machines::request::Actor;

/// The widest and the tallest image.
const LARGEST_SIDE: u16 = 4096;

impl Host {
    pub(super) async fn thumbnail(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = match self.subject(arguments, "TargetSystem")? {
            Subject::Settings(Configuration::Active(machine)) | Subject::Machine(machine) => {
                machine
            }
            Subject::Settings(Configuration::Snapshot(..)) => {
                return Err(Refusal::unsupported(
                    "TargetSystem names a snapshot; snapshots hold no picture of the screen. Name \
                     the active settings of a machine that runs.",
                ));
            }
            other => {
                return Err(Refusal::invalid(format!(
                    "TargetSystem names a {}, not the settings of a virtual machine.",
                    other.class(self.version)
                )));
            }
        };
        let (width, height) = (
            side(arguments, "WidthPixels")?,
            side(arguments, "HeightPixels")?,
        );
        let picture = self.machines.picture(actor, machine.id).await?;
        let image = tokio::task::spawn_blocking(move || scaled(&picture, width, height)).await;
        let image = image.map_err(|_| Refusal {
            codes: errors::UNAVAILABLE,
            text: "The service is ending.".to_owned(),
        })?;
        let image = image.into_iter().map(Value::Uint8).collect();
        Ok(Answer::completed().with("ImageData", Value::Array(image)))
    }
}

fn side(arguments: &Arguments, name: &str) -> Result<usize, Refusal> {
    match arguments.get(name).as_u16() {
        Some(side @ 1..=LARGEST_SIDE) => Ok(side.into()),
        _ => Err(Refusal::invalid(format!(
            "{name} is not 1 to {LARGEST_SIDE}."
        ))),
    }
}

/// The picture in another size, in lines from the top, two bytes a pixel: five bits red, six
/// green, five blue, the lower byte first. Each pixel is the mean of those that it stands for.
fn scaled(picture: &Picture, width: usize, height: usize) -> Vec<u8> {
    let mut image = Vec::with_capacity(width * height * 2);
    for y in 0..height {
        let rows = span(y, height, picture.height);
        for x in 0..width {
            let columns = span(x, width, picture.width);
            let [red, green, blue] = mean(picture, columns, rows.clone());
            let pixel = (red >> 3) << 11 | (green >> 2) << 5 | blue >> 3;
            image.extend(pixel.to_le_bytes());
        }
    }
    image
}

/// The pixels of `whole` that the pixel `at` of `parts` stands for; never none.
fn span(at: usize, parts: usize, whole: usize) -> std::ops::Range<usize> {
    let start = at * whole / parts;
    let end = (at + 1) * whole / parts;
    start..end.max(start + 1)
}

/// Red, green and blue, 0 to 255.
fn mean(
    picture: &Picture,
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
) -> [u16; 3] {
    let mut sums = [0u64; 3];
    let mut count = 0u64;
    for row in rows {
        let start = (row * picture.width + columns.start) * 3;
        let pixels = picture.rgb.get(start..start + columns.len() * 3);
        for pixel in pixels.unwrap_or_default().chunks_exact(3) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += u64::from(*value);
            }
            count += 1;
        }
    }
    sums.map(|sum| u16::try_from(sum / count.max(1)).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_means_in_16_bits() {
        // White and black above, red and blue below.
        let picture = Picture {
            width: 2,
            height: 2,
            rgb: vec![255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 0, 255],
        };
        let pixels = |width, height| -> Vec<u16> {
            let image = scaled(&picture, width, height);
            assert_eq!(image.len(), width * height * 2);
            image
                .chunks_exact(2)
                .map(|two| u16::from_le_bytes([two[0], two[1]]))
                .collect()
        };
        assert_eq!(pixels(2, 2), [0xFFFF, 0, 0xF800, 0x001F]);
        // Halves of red and blue, a quarter of green.
        assert_eq!(pixels(1, 1), [0x79EF]);
        assert_eq!(pixels(4, 1).len(), 4);
        assert_eq!(pixels(3, 5).len(), 15);
    }
}
