//! Disk image files, through `qemu-img`, for disks that no process has open (and for looking at
//! those that one has).
//!
//! Every format is given by the caller: a raw disk's guest can write whatever looks like another
//! format into its first bytes, so a format is [decided once](Img::detect_format), when a client
//! attaches a file, and stored.

use crate::installation::Installation;
use crate::spec::{Format, SpecError, check_path};
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest output that is read.
const MAX_OUTPUT: u64 = 16 << 20;
const MAX_ERRORS: u64 = 64 << 10;
/// The longest chain of files that is followed.
const MAX_DEPTH: usize = 256;
/// For what does not move data.
const QUICK: Duration = Duration::from_secs(60);
/// For what moves as much data as a disk holds.
const LONG: Duration = Duration::from_secs(24 * 3600);

/// Runs `qemu-img`.
#[derive(Clone, Debug)]
pub struct Img {
    program: PathBuf,
}

/// What is known of an image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Size of the disk that the guest sees, in bytes.
    pub virtual_size: u64,
    /// Bytes that the file takes.
    pub actual_size: u64,
    /// The file below.
    pub backing: Option<Backing>,
    /// Whether it was not closed properly.
    pub dirty: bool,
    /// Whether it is marked as damaged (qcow2).
    pub corrupt: bool,
}

/// The file below another, as its header names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// The file; absolute, if the header or its folder allow to tell.
    pub path: PathBuf,
    /// Its format, if the header names one of ours.
    pub format: Option<Format>,
}

/// How an off-line merge is followed, and stopped.
pub struct Follow<'a> {
    /// Is told how far it is, in parts of ten thousand.
    pub progress: Box<dyn FnMut(u32) + Send + 'a>,
    /// Stops it by resolving. The chain is then as before.
    pub stop: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
}

impl Follow<'_> {
    /// Nobody follows.
    fn not() -> Follow<'static> {
        Follow {
            progress: Box::new(|_| {}),
            stop: Box::pin(std::future::pending()),
        }
    }
}

/// Why an image cannot be used, or was not changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImgError {
    #[error(transparent)]
    Path(#[from] SpecError),
    #[error("The disk image {path} does not exist.")]
    Missing { path: PathBuf },
    #[error("The disk image {path} cannot be opened: {cause}.")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{path} is neither a file nor a disk.")]
    NotAFile { path: PathBuf },
    #[error("The disk image {path} exists already.")]
    Exists { path: PathBuf },
    #[error("The disk image {path} is in use by another process. Stop that first.")]
    InUse { path: PathBuf },
    #[error("The disk image {path} is damaged: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    #[error(
        "By its name {path} is a {by_name} image, by its first bytes {by_content}. Give it the \
         name of its format."
    )]
    FormatMismatch {
        path: PathBuf,
        by_name: Format,
        by_content: Format,
    },
    #[error("{path} ends like a {by_name} image, but nothing in it is one.")]
    NotOfFormat { path: PathBuf, by_name: Format },
    #[error(
        "{path} is a differencing VHD, which QEMU cannot read. Merge it with its parent first."
    )]
    DifferencingVhd { path: PathBuf },
    #[error("Files that stand on {path} stand on each other more than {MAX_DEPTH} deep.")]
    TooDeep { path: PathBuf },
    #[error("There is no space left for {path}.")]
    NoSpace { path: PathBuf },
    #[error("qemu-img {operation} on {path} failed. It says: {said}")]
    Failed {
        operation: &'static str,
        path: PathBuf,
        said: String,
    },
    #[error("qemu-img {operation} on {path} did not end within {seconds} s.")]
    TimedOut {
        operation: &'static str,
        path: PathBuf,
        seconds: u64,
    },
    #[error("qemu-img {operation} on {path} was stopped.")]
    Stopped {
        operation: &'static str,
        path: PathBuf,
    },
    #[error("qemu-img cannot be run: {cause}.")]
    NotRunnable {
        #[source]
        cause: io::Error,
    },
    #[error("The answer of qemu-img info lacks {lacking}.")]
    BadAnswer { lacking: &'static str },
}

impl Img {
    /// Uses this installation's `qemu-img`.
    pub fn new(installation: &Installation) -> Img {
        Img {
            program: installation.img.clone(),
        }
    }

    /// Decides the format of a file that a client wants to attach, by its name and its content,
    /// which must agree. Every name but `.qcow2`, `.vhd`, `.avhd`, `.vhdx` and `.avhdx` says raw.
    pub async fn detect_format(&self, path: &Path) -> Result<Format, ImgError> {
        let path = path.to_path_buf();
        tokio::task::spawn_blocking(move || detect(&path))
            .await
            .unwrap_or_else(|error| {
                Err(ImgError::NotRunnable {
                    cause: io::Error::other(error),
                })
            })
    }

    /// What is known of an image. Does not open the files below it; works while a process has it
    /// open (sizes may then be a moment old).
    pub async fn info(&self, path: &Path, format: Format) -> Result<Info, ImgError> {
        open_image(path)?;
        // Without the files below: the file's own header is asked for, nothing else.
        let arguments = ["-U", "-f", format.driver(), "--output=json"];
        let output = self.run("info", path, &arguments, None, QUICK).await?;
        parse_info(&output, path, format)
    }

    /// The whole chain, the given file first, as the headers name it.
    pub async fn chain(&self, path: &Path, format: Format) -> Result<Vec<Info>, ImgError> {
        let mut chain = Vec::new();
        let mut next = Some((path.to_path_buf(), format));
        while let Some((path, format)) = next {
            if chain.len() >= MAX_DEPTH {
                return Err(ImgError::TooDeep { path });
            }
            let info = self.info(&path, format).await?;
            next = match &info.backing {
                // A header that does not name the format below is only believed where the file
                // itself proves it.
                Some(below) => {
                    let format = match below.format {
                        Some(format) => format,
                        None => self.detect_format(&below.path).await?,
                    };
                    Some((below.path.clone(), format))
                }
                None => None,
            };
            chain.push(info);
        }
        Ok(chain)
    }

    /// A new empty qcow2 overlay on `backing`, durable. `backing` may be in use.
    ///
    /// Clusters of 128 KiB with extended L2 entries: the first write to a place copies 4 KiB, not
    /// a cluster, which makes it several times quicker and the file many times smaller.
    pub async fn create_overlay(
        &self,
        path: &Path,
        backing: &Path,
        backing_format: Format,
    ) -> Result<(), ImgError> {
        check_path(backing)?;
        let size = self.info(backing, backing_format).await?.virtual_size;
        let options = "cluster_size=128k,extended_l2=on";
        let below = backing.to_string_lossy();
        let driver = backing_format.driver();
        // Unchecked (-u), because a running process may hold the lock of the file below; it has
        // just been looked at.
        let arguments = [
            "-q", "-u", "-f", "qcow2", "-o", options, "-b", &below, "-F", driver,
        ];
        self.create_with(path, &arguments, size).await
    }

    /// A new empty disk of `bytes`, durable.
    pub async fn create(&self, path: &Path, format: Format, bytes: u64) -> Result<(), ImgError> {
        let arguments = ["-q", "-f", format.driver()];
        self.create_with(path, &arguments, bytes).await
    }

    async fn create_with(
        &self,
        path: &Path,
        arguments: &[&str],
        size: u64,
    ) -> Result<(), ImgError> {
        check_path(path)?;
        // qemu-img would overwrite; this file is ours from here on.
        let created = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match created {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ImgError::Exists { path: path.into() });
            }
            Err(cause) => return Err(cannot_open(path, cause)),
            Ok(_) => {}
        }
        let size = size.to_string();
        let made = match self
            .run("create", path, arguments, Some(&size), QUICK)
            .await
        {
            Ok(_) => make_durable(path).await,
            Err(error) => Err(error),
        };
        if made.is_err() {
            // The first error counts.
            let _ = std::fs::remove_file(path);
        }
        made
    }

    /// Looks for damage inside the file (not below it). Formats without a check pass.
    pub async fn check(&self, path: &Path, format: Format) -> Result<(), ImgError> {
        open_image(path)?;
        let mut alone = json!({
            "driver": format.driver(),
            "file": {"driver": "file", "filename": path.to_string_lossy()},
        });
        if format == Format::Qcow2 {
            alone["backing"] = Value::Null;
        }
        let alone = PathBuf::from(format!("json:{alone}"));
        match self
            .run_for_status("check", &alone, &["-q", "--output=json"], None, LONG)
            .await?
        {
            // 3: space that nothing refers to, which harms nobody. 63: no check for this format.
            (Some(0 | 3 | 63), _, _) => Ok(()),
            (Some(2), output, said) => Err(ImgError::Corrupt {
                path: path.into(),
                detail: corruptions(&output).unwrap_or(said),
            }),
            (_, _, said) => Err(refusal("check", path, said)),
        }
    }

    /// A process that merges onto a disk that is served to it writes `nbd` into the header above
    /// as the format below, which names the way to the file and not the file. Puts that right in
    /// the whole chain, so that it can be opened without the server.
    async fn name_formats(&self, top: &Path) -> Result<(), ImgError> {
        for info in self.chain(top, Format::Qcow2).await? {
            let Some(Backing { path, format: None }) = &info.backing else {
                continue;
            };
            let format = self.detect_format(path).await?;
            if !crate::nbd::is_served(format) {
                continue;
            }
            let below = path.to_string_lossy();
            let driver = format.driver();
            let arguments = ["-q", "-u", "-f", "qcow2", "-b", &below, "-F", driver];
            self.run("rebase", &info.path, &arguments, None, QUICK)
                .await?;
            make_durable(&info.path).await?;
        }
        Ok(())
    }

    /// Off-line, for `new_backing <- X <- child`: copies what `child` (qcow2) needs from X into
    /// it, so that X leaves the chain (`None`: `child` then stands alone). Durable; can be
    /// repeated after a crash.
    pub async fn pull(
        &self,
        child: &Path,
        new_backing: Option<(&Path, Format)>,
    ) -> Result<(), ImgError> {
        self.pull_following(child, new_backing, &mut Follow::not())
            .await
    }

    /// As [`Img::pull`], followed.
    pub async fn pull_following(
        &self,
        child: &Path,
        new_backing: Option<(&Path, Format)>,
        follow: &mut Follow<'_>,
    ) -> Result<(), ImgError> {
        open_image(child)?;
        self.name_formats(child).await?;
        let below = match new_backing {
            Some((path, _)) => {
                check_path(path)?;
                path.to_string_lossy()
            }
            None => "".into(),
        };
        let mut arguments = vec!["-p", "-f", "qcow2", "-b", &below];
        if let Some((_, format)) = new_backing {
            arguments.extend(["-F", format.driver()]);
        }
        self.run_followed("rebase", child, &arguments, follow)
            .await?;
        make_durable(child).await
    }

    /// Off-line: writes `child` (qcow2) into `parent`, which it stands on. Durable; can be
    /// repeated after a crash. `child` then holds nothing that `parent` does not.
    pub async fn commit(&self, child: &Path, parent: &Path) -> Result<(), ImgError> {
        self.commit_following(child, parent, &mut Follow::not())
            .await
    }

    /// As [`Img::commit`], followed. What lies between the two goes down with `child`.
    pub async fn commit_following(
        &self,
        child: &Path,
        parent: &Path,
        follow: &mut Follow<'_>,
    ) -> Result<(), ImgError> {
        open_image(child)?;
        open_image(parent)?;
        self.name_formats(child).await?;
        let below = parent.to_string_lossy();
        let arguments = ["-p", "-f", "qcow2", "-d", "-b", &below];
        self.run_followed("commit", child, &arguments, follow)
            .await?;
        make_durable(parent).await
    }

    /// Runs what moves much data, telling how far it is, until it ends or is stopped.
    async fn run_followed(
        &self,
        operation: &'static str,
        path: &Path,
        arguments: &[&str],
        follow: &mut Follow<'_>,
    ) -> Result<(), ImgError> {
        let not_runnable = |cause| ImgError::NotRunnable { cause };
        let mut child = self
            .command(operation, path, arguments, None)
            .spawn()
            .map_err(not_runnable)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let finish = async {
            let told = tell(output, &mut follow.progress);
            let (told, errors) = tokio::join!(told, read(errors, MAX_ERRORS));
            told?;
            errors
        };
        let errors = tokio::select! {
            errors = finish => errors.map_err(not_runnable)?,
            () = &mut follow.stop => {
                // Gone when this returns, so that its files are free.
                child.kill().await.map_err(not_runnable)?;
                return Err(ImgError::Stopped { operation, path: path.into() });
            }
        };
        let status = child.wait().await.map_err(not_runnable)?;
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&errors);
        let said = said.trim().trim_start_matches("qemu-img: ").to_owned();
        Err(refusal(operation, path, said))
    }

    fn command(
        &self,
        operation: &'static str,
        path: &Path,
        arguments: &[&str],
        last: Option<&str>,
    ) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg(operation)
            .args(arguments)
            .arg(path)
            .args(last)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(
        &self,
        operation: &'static str,
        path: &Path,
        arguments: &[&str],
        last: Option<&str>,
        patience: Duration,
    ) -> Result<Vec<u8>, ImgError> {
        let done = self.run_for_status(operation, path, arguments, last, patience);
        match done.await? {
            (Some(0), output, _) => Ok(output),
            (_, _, said) => Err(refusal(operation, path, said)),
        }
    }

    /// Exit status, output, and what was said about errors.
    async fn run_for_status(
        &self,
        operation: &'static str,
        path: &Path,
        arguments: &[&str],
        last: Option<&str>,
        patience: Duration,
    ) -> Result<(Option<i32>, Vec<u8>, String), ImgError> {
        let not_runnable = |cause| ImgError::NotRunnable { cause };
        let mut child = self
            .command(operation, path, arguments, last)
            .spawn()
            .map_err(not_runnable)?;
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let finish = async {
            let (output, errors) = tokio::join!(read(output, MAX_OUTPUT), read(errors, MAX_ERRORS));
            // Both have been read to their ends or limits; beyond those nobody listens.
            let status = child.wait().await?;
            Ok((status.code(), output?, errors?))
        };
        let (status, output, errors) = tokio::time::timeout(patience, finish)
            .await
            .map_err(|_| ImgError::TimedOut {
                operation,
                path: path.into(),
                seconds: patience.as_secs(),
            })?
            .map_err(not_runnable)?;
        let said = String::from_utf8_lossy(&errors);
        let said = said.trim().trim_start_matches("qemu-img: ").to_owned();
        Ok((status, output, said))
    }
}

/// Reads to the end, and tells what `(12.34/100%)` says in between.
async fn tell(
    from: Option<impl AsyncRead + Unpin>,
    mut progress: impl FnMut(u32),
) -> io::Result<()> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let mut chunk = [0; 512];
    let mut text = String::new();
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        text.push_str(&String::from_utf8_lossy(
            chunk.get(..read).unwrap_or_default(),
        ));
        if let Some(done) = last_share(&text) {
            progress(done);
        }
        // What is not complete yet is at most one number long.
        let cut = text.len().saturating_sub(32);
        let cut = (cut..=text.len()).find(|at| text.is_char_boundary(*at));
        text.drain(..cut.unwrap_or(0));
    }
}

/// The last share in a text like `    (12.34/100%)\r`, in parts of ten thousand.
fn last_share(text: &str) -> Option<u32> {
    let (before, _) = text.rsplit_once("/100%)")?;
    let (_, number) = before.rsplit_once('(')?;
    let (whole, part) = number.trim().split_once('.')?;
    let part: u32 = part.get(..2)?.parse().ok()?;
    let whole: u32 = whole.parse().ok()?;
    Some(whole.checked_mul(100)?.checked_add(part)?.min(10_000))
}

async fn read(from: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// qemu-img tells causes in words only.
fn refusal(operation: &'static str, path: &Path, said: String) -> ImgError {
    let path = path.to_path_buf();
    if said.contains("lock") && said.contains("Is another process using the image") {
        return ImgError::InUse { path };
    }
    if said.contains("No space left on device") {
        return ImgError::NoSpace { path };
    }
    ImgError::Failed {
        operation,
        path,
        said,
    }
}

fn cannot_open(path: &Path, cause: io::Error) -> ImgError {
    let path = path.to_path_buf();
    match cause.kind() {
        io::ErrorKind::NotFound => ImgError::Missing { path },
        io::ErrorKind::StorageFull => ImgError::NoSpace { path },
        _ => ImgError::Unreadable { path, cause },
    }
}

/// Opens a file or disk for reading, and nothing else: a named pipe would never open.
fn open_image(path: &Path) -> Result<(File, u64), ImgError> {
    check_path(path)?;
    let open = || -> io::Result<Option<(File, u64)>> {
        let metadata = std::fs::metadata(path)?;
        let kind = metadata.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Ok(None);
        }
        Ok(Some((File::open(path)?, metadata.len())))
    };
    match open() {
        Ok(Some(opened)) => Ok(opened),
        Ok(None) => Err(ImgError::NotAFile { path: path.into() }),
        Err(cause) => Err(cannot_open(path, cause)),
    }
}

async fn make_durable(path: &Path) -> Result<(), ImgError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    for path in [path, folder] {
        let sync = async { tokio::fs::File::open(path).await?.sync_all().await };
        sync.await.map_err(|cause| cannot_open(path, cause))?;
    }
    Ok(())
}

fn detect(path: &Path) -> Result<Format, ImgError> {
    let (file, length) = open_image(path)?;
    let by_name = format_by_name(path);
    let by_content = format_by_content(&file, length).map_err(|cause| ImgError::Unreadable {
        path: path.into(),
        cause,
    })?;
    match by_content {
        Content::DifferencingVhd => Err(ImgError::DifferencingVhd { path: path.into() }),
        Content::Is(Format::Raw) if by_name != Format::Raw => Err(ImgError::NotOfFormat {
            path: path.into(),
            by_name,
        }),
        Content::Is(by_content) if by_content != by_name => Err(ImgError::FormatMismatch {
            path: path.into(),
            by_name,
            by_content,
        }),
        Content::Is(format) => Ok(format),
    }
}

fn format_by_name(path: &Path) -> Format {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match extension.to_ascii_lowercase().as_str() {
        "qcow2" => Format::Qcow2,
        "vhd" | "avhd" => Format::Vhd,
        "vhdx" | "avhdx" => Format::Vhdx,
        _ => Format::Raw,
    }
}

enum Content {
    Is(Format),
    DifferencingVhd,
}

fn format_by_content(file: &File, length: u64) -> io::Result<Content> {
    let mut first = [0; 512];
    let read = file.read_at(&mut first, 0)?;
    let first = first.get(..read).unwrap_or_default();
    if first.starts_with(b"QFI\xfb") {
        return Ok(Content::Is(Format::Qcow2));
    }
    if first.starts_with(b"vhdxfile") {
        return Ok(Content::Is(Format::Vhdx));
    }
    // A VHD ends in its footer; one that grows begins with a copy of it.
    let mut last = [0; 512];
    if let Some(at) = length.checked_sub(512) {
        file.read_exact_at(&mut last, at)?;
    }
    let footer = [first, &last]
        .into_iter()
        .find(|f| f.starts_with(b"conectix"));
    Ok(match footer {
        Some(footer) if footer.get(60..64) == Some(&[0, 0, 0, 4]) => Content::DifferencingVhd,
        Some(_) => Content::Is(Format::Vhd),
        None => Content::Is(Format::Raw),
    })
}

/// Reads what `qemu-img info --output=json` says about the image at `path`.
pub fn parse_info(output: &[u8], path: &Path, format: Format) -> Result<Info, ImgError> {
    let lacks = |lacking| ImgError::BadAnswer { lacking };
    let answer: Value = serde_json::from_slice(output).map_err(|_| lacks("any JSON"))?;
    let text = |key| answer.get(key).and_then(Value::as_str);
    let number = |key| answer.get(key).and_then(Value::as_u64);
    let found = text("format").and_then(Format::from_driver);
    if found != Some(format) {
        return Err(lacks("the format that was asked for"));
    }
    let below = text("full-backing-filename").or(text("backing-filename"));
    let backing = below.map(|file| Backing {
        path: beside(path, file),
        format: text("backing-filename-format").and_then(Format::from_driver),
    });
    let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
    Ok(Info {
        path: path.into(),
        format,
        virtual_size: number("virtual-size").ok_or_else(|| lacks("the size"))?,
        actual_size: number("actual-size").unwrap_or(0),
        backing,
        dirty: flag(answer.get("dirty-flag")),
        corrupt: flag(answer.pointer("/format-specific/data/corrupt")),
    })
}

/// A name in a header, seen from the folder of the file that it is in.
fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).join(name)
}

/// What `qemu-img check --output=json` counted.
fn corruptions(output: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(output).ok()?;
    let count = answer.get("corruptions")?.as_u64()?;
    Some(format!("qemu-img counts {count} errors in it."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn name_and_content_must_agree_on_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let mut vhd = vec![0; 2048];
        vhd[1536..1544].copy_from_slice(b"conectix");
        let qcow2 = b"QFI\xfb\0\0\0\x03".as_slice();
        let detect = |name, bytes: &[u8]| detect(&file(&dir, name, bytes));
        assert_eq!(detect("a.VHD", &vhd).unwrap(), Format::Vhd);
        assert_eq!(detect("a.vhdx", b"vhdxfile").unwrap(), Format::Vhdx);
        assert_eq!(detect("a.qcow2", qcow2).unwrap(), Format::Qcow2);
        assert_eq!(detect("a.img", b"").unwrap(), Format::Raw);
        // What a guest could have written into its raw disk.
        assert!(matches!(
            detect("b.img", qcow2),
            Err(ImgError::FormatMismatch {
                by_name: Format::Raw,
                by_content: Format::Qcow2,
                ..
            })
        ));
        assert!(matches!(
            detect("b.vhd", &[0; 600]),
            Err(ImgError::NotOfFormat {
                by_name: Format::Vhd,
                ..
            })
        ));
        vhd[1536 + 63] = 4;
        assert!(matches!(
            detect("b.avhd", &vhd),
            Err(ImgError::DifferencingVhd { .. })
        ));
    }

    #[test]
    fn what_is_no_file_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            detect(&dir.path().join("x")),
            Err(ImgError::Missing { .. })
        ));
        assert!(matches!(detect(dir.path()), Err(ImgError::NotAFile { .. })));
        assert!(matches!(detect(Path::new("x.vhd")), Err(ImgError::Path(_))));
    }

    #[test]
    fn the_last_share_that_is_told_counts() {
        assert_eq!(
            last_share("    (0.00/100%)\r    (12.34/100%)\r   (13"),
            Some(1234)
        );
        assert_eq!(last_share("(100.00/100%)\rImage committed."), Some(10_000));
        for text in [
            "",
            "/100%)",
            "(1/100%)",
            "(9999999999.00/100%)",
            "(1.é/100%)",
        ] {
            assert_eq!(last_share(text), None, "{text}");
        }
    }

    #[test]
    fn a_relative_backing_name_is_seen_from_the_file_that_has_it() {
        let json = br#"{"virtual-size": 5, "format": "qcow2", "backing-filename": "b/c.vhd",
                        "backing-filename-format": "vpc"}"#;
        let info = parse_info(json, Path::new("/a/top"), Format::Qcow2).unwrap();
        let backing = info.backing.unwrap();
        assert_eq!(backing.path, PathBuf::from("/a/b/c.vhd"));
        assert_eq!(backing.format, Some(Format::Vhd));
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse_info(&bytes, Path::new("/a"), Format::Raw).is_err());
        }
    }
}
