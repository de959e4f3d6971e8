//! Where things are: the workspace's root and its cache (never committed, safe to delete).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

/// A folder in the cache, made if it is not there.
pub fn cache(name: &str) -> io::Result<PathBuf> {
    let path = root().join(".cache").join(name);
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// Keeps other runs out of the cache until the file is dropped; waits for them.
pub fn lock_cache() -> io::Result<File> {
    let file = File::create(cache("")?.join("lock"))?;
    file.lock()?;
    Ok(file)
}
