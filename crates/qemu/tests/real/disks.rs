//! qemu-img on real files, some of them in use by a running machine.

use crate::machine::*;
use qemu::Installation;
use qemu::img::{Img, ImgError};
use qemu::spec::Format;
use std::os::unix::fs::FileExt;

async fn img() -> (tempfile::TempDir, Img) {
    let installation = Installation::find().await.unwrap();
    (tempfile::tempdir().unwrap(), Img::new(&installation))
}

#[tokio::test]
async fn every_format_is_made_found_described_and_built_upon() {
    let (dir, img) = img().await;
    for (name, format) in [
        ("a.raw", Format::Raw),
        ("a.qcow2", Format::Qcow2),
        ("a.vhd", Format::Vhd),
        ("a.vhdx", Format::Vhdx),
    ] {
        let path = dir.path().join(name);
        img.create(&path, format, 32 << 20).await.unwrap();
        assert_eq!(img.detect_format(&path).await.unwrap(), format);
        let info = img.info(&path, format).await.unwrap();
        assert!(
            info.virtual_size >= 32 << 20 && info.virtual_size < 33 << 20,
            "{info:?}"
        );
        assert_eq!(
            (info.backing, info.dirty, info.corrupt),
            (None, false, false)
        );
        img.check(&path, format).await.unwrap();
        let again = img.create(&path, format, 1 << 20).await;
        assert!(matches!(again, Err(ImgError::Exists { .. })));

        let overlay = dir.path().join(format!("{name}.over.qcow2"));
        img.create_overlay(&overlay, &path, format).await.unwrap();
        let chain = img.chain(&overlay, Format::Qcow2).await.unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!((&chain[1].path, chain[1].format), (&path, format));
        assert_eq!(chain[0].virtual_size, chain[1].virtual_size);
    }
}

#[tokio::test]
async fn a_disk_in_use_is_looked_at_and_built_upon_but_not_changed() {
    let machine = Machine::new(WRITING).await;
    let process = machine.launch().await;
    machine.counts_beyond(3).await;
    let img = machine.img();
    let disk = machine.path("one");
    img.info(&disk, Format::Raw).await.unwrap();
    let overlay = machine.path("overlay.qcow2");
    img.create_overlay(&overlay, &disk, Format::Raw)
        .await
        .unwrap();
    let error = img.commit(&overlay, &disk).await.unwrap_err();
    assert!(matches!(error, ImgError::InUse { .. }), "{error}");
    process.kill().await.unwrap();
    img.commit(&overlay, &disk).await.unwrap();
}

#[tokio::test]
async fn damage_is_named() {
    let (dir, img) = img().await;
    let path = dir.path().join("a.qcow2");
    img.create(&path, Format::Qcow2, 32 << 20).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    // The reference count of the first clusters: now in use, and counted as free.
    file.write_all_at(&[0; 8], 2 * 65536).unwrap();
    let error = img.check(&path, Format::Qcow2).await.unwrap_err();
    assert!(matches!(error, ImgError::Corrupt { .. }), "{error}");
    file.write_all_at(&[0xff; 64], 8).unwrap();
    let error = img.info(&path, Format::Qcow2).await.unwrap_err();
    assert!(
        matches!(
            error,
            ImgError::Failed {
                operation: "info",
                ..
            }
        ),
        "{error}"
    );
    let missing = dir.path().join("missing.qcow2");
    let error = img.info(&missing, Format::Qcow2).await.unwrap_err();
    assert!(matches!(error, ImgError::Missing { .. }), "{error}");
    let overlay = dir.path().join("overlay.qcow2");
    let error = img.create_overlay(&overlay, &missing, Format::Qcow2).await;
    assert!(error.is_err() && !overlay.exists());
}

#[tokio::test]
async fn a_chain_that_bites_its_tail_is_refused() {
    let (dir, img) = img().await;
    let (a, b) = (dir.path().join("a.qcow2"), dir.path().join("b.qcow2"));
    img.create(&a, Format::Qcow2, 1 << 20).await.unwrap();
    img.create_overlay(&b, &a, Format::Qcow2).await.unwrap();
    std::fs::remove_file(&a).unwrap();
    img.create_overlay(&a, &b, Format::Qcow2).await.unwrap();
    let error = img.chain(&a, Format::Qcow2).await.unwrap_err();
    assert!(matches!(error, ImgError::TooDeep { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_is_called_so() {
    let Some(small) = SmallDisk::mount(4) else {
        return;
    };
    let (dir, img) = img().await;
    let base = dir.path().join("base.raw");
    std::fs::write(&base, vec![7; 8 << 20]).unwrap();
    let child = small.0.path().join("child.qcow2");
    img.create_overlay(&child, &base, Format::Raw)
        .await
        .unwrap();
    let error = img.pull(&child, None).await.unwrap_err();
    assert!(matches!(error, ImgError::NoSpace { .. }), "{error}");
}
