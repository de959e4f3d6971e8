//! Memory images on each other: which one a new image stands on, and opening one.
//!
//! A new image stores only the pages that differ from those of the snapshot that the running
//! state descends from. So an image is needed as long as another one stands on it, whether or not
//! its snapshot is still there.

use super::record::Record;
use super::work::{Work, blocking};
use crate::catalog::Image;
use crate::error::Error;
use crate::ids::ImageId;
use qemu::memory_image::{self, ImageError, MemoryImage};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A new image stands alone rather than on so many others.
const MOST: usize = 64;

/// The identity of an image in its file.
pub(crate) fn in_file(id: ImageId) -> memory_image::ImageId {
    memory_image::ImageId(id.0.as_u128())
}

/// The identity of an image in the catalog.
pub(crate) fn in_catalog(id: memory_image::ImageId) -> ImageId {
    ImageId(uuid::Uuid::from_u128(id.0))
}

impl Record {
    /// An image, the one that it stands on, and so on. Cannot run in circles.
    pub fn image_chain(&self, id: ImageId) -> Vec<&Image> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some(image) = next.and_then(|id| self.images.get(&id)) {
            if chain.len() > self.images.len() {
                break;
            }
            chain.push(image);
            next = image.parent;
        }
        chain
    }

    /// The files of all images.
    pub fn image_paths(&self) -> BTreeMap<memory_image::ImageId, PathBuf> {
        let images = self.images.values();
        images.map(|i| (in_file(i.id), i.path.clone())).collect()
    }

    /// What a new image of the running guest is to stand on.
    fn image_below(&self) -> Option<&Image> {
        let snapshot = self.body.parent.and_then(|id| self.snapshot(id))?;
        let chain = self.image_chain(snapshot.image?);
        chain.first().copied().filter(|_| chain.len() < MOST)
    }
}

/// Opens an image with all that it stands on (blocks).
pub(crate) fn open_blocking(record: &Record, image: &Image) -> Result<MemoryImage, Error> {
    let paths = record.image_paths();
    let opened = MemoryImage::open(&image.path, &|id| paths.get(&id).cloned());
    let opened = opened.and_then(|opened| match opened.header().id == in_file(image.id) {
        true => Ok(opened),
        false => Err(ImageError::WrongImage {
            path: image.path.clone(),
            expected: in_file(image.id),
            found: opened.header().id,
        }),
    });
    opened.map_err(|cause| Error::DamagedImage {
        path: image.path.clone(),
        reason: cause.to_string(),
    })
}

/// Opens an image with all that it stands on.
pub(crate) async fn open(record: &Record, image: &Image) -> Result<Arc<MemoryImage>, Error> {
    let (record, image) = (record.clone(), image.clone());
    blocking(move || open_blocking(&record, &image).map(Arc::new)).await
}

/// The image that a new one of the running guest is to stand on, open. One that cannot be opened
/// does not keep the machine from being captured.
pub(crate) async fn below(work: &Work) -> Option<Arc<MemoryImage>> {
    let image = work.record.image_below()?;
    match open(&work.record, image).await {
        Ok(image) => Some(image),
        Err(cause) => {
            tracing::warn!(%cause, "the next memory image will stand alone");
            None
        }
    }
}

/// What the catalog says otherwise than the file.
pub(crate) fn differences(image: &Image, opened: &MemoryImage) -> Vec<String> {
    let path = image.path.display();
    let mut found = Vec::new();
    let below = opened.header().parent.map(in_catalog);
    if below != image.parent {
        found.push(format!(
            "{path} stands on {below:?}, and {:?} is recorded.",
            image.parent
        ));
    }
    let bytes = crate::files::stored_bytes(&image.path);
    if bytes != image.bytes {
        found.push(format!(
            "{path} takes {bytes} bytes, and {} are recorded.",
            image.bytes
        ));
    }
    found
}
