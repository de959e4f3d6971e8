//! Looks at the files of one snapshot.
//!
//! Nothing is locked: the machine runs, and its other snapshots come and go. Layers that are merged
//! meanwhile lose their hashes first, so a difference only counts if the hash it was found against
//! still stands at the end.

use super::layer_header::{Header, LOOKED_AT};
use super::report::{CheckedFile, Damage, Depth, FileRole, FileState, Verification};
use super::segments::{Reader, Stamp, count, extent};
use super::sums::{self, Sums};
use crate::catalog::{Change, Layer};
use crate::error::Error;
use crate::files::{self, Places};
use crate::host::Host;
use crate::ids::{LayerId, SnapshotId};
use crate::jobs::JobHandle;
use crate::manifest::Manifest;
use crate::model::{Device, Settings, Timestamp};
use crate::owner::record::Record;
use crate::owner::work::blocking;
use qemu::memory_image::{self, ImageError, MemoryImage};
use qemu::spec::Format;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many segments one thread compares before it looks for more.
const UNIT: u64 = 32;
/// Threads that read at once.
const MOST_THREADS: usize = 4;
/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(50);
/// What is said of a layer whose file of hashes somebody deleted. It is hashed again.
const LOST: &str = "the file of its hashes is gone";
/// Mismatches of one file that are told one by one.
const MOST_PLACES: usize = 1000;

/// Everything that looking at a snapshot needs to know, so that the machine is not needed.
pub(crate) struct Subject {
    snapshot: SnapshotId,
    dir: PathBuf,
    manifest: Manifest,
    /// The memory image and those that it stands on.
    images: Vec<PathBuf>,
    /// Where all images of the machine lie.
    image_paths: Arc<BTreeMap<memory_image::ImageId, PathBuf>>,
    layers: Vec<(FileRole, Layer, Option<PathBuf>)>,
    places: Places,
}

impl Subject {
    /// The files of a snapshot, each once.
    pub fn of(record: &Record, places: Places, snapshot: SnapshotId) -> Result<Subject, Error> {
        let row = record
            .snapshot(snapshot)
            .ok_or(Error::NoSuchSnapshot(snapshot))?;
        let settings = &row.snapshot.settings;
        let mut seen = HashSet::new();
        let mut layers = Vec::new();
        for device in settings.devices.iter() {
            let Some(top) = device.layer else { continue };
            let chain = record.chain(top);
            if chain.is_empty() {
                return Err(Error::NoSuchLayer(top));
            }
            for (at, layer) in chain.iter().enumerate() {
                if !seen.insert(layer.id) {
                    continue;
                }
                let role = FileRole::Layer {
                    disk: disk_name(settings, device),
                    position: (at + 1, chain.len()),
                    layer: layer.id,
                };
                let below = layer.parent.and_then(|id| record.layers.get(&id));
                let below = below.map(|layer| layer.path.clone());
                layers.push((role, (*layer).clone(), below));
            }
        }
        let images = row.image.map(|id| record.image_chain(id));
        let images = images.into_iter().flatten().map(|i| i.path.clone());
        Ok(Subject {
            snapshot,
            dir: row.dir.clone(),
            manifest: Manifest::of(record, row),
            images: images.collect(),
            image_paths: Arc::new(record.image_paths()),
            layers,
            places,
        })
    }
}

/// The place of a disk, for people: its controller and slot.
fn disk_name(settings: &Settings, image: &Device) -> String {
    let find = |id| settings.devices.iter().find(|d| Some(&d.id) == id);
    let drive = find(image.parent.as_ref());
    let controller = find(drive.and_then(|d| d.parent.as_ref()));
    match (drive, controller) {
        (Some(drive), Some(controller)) => {
            let slot = drive.address.as_deref().unwrap_or("?");
            format!("{} slot {slot}", controller.name)
        }
        _ => image.name.clone(),
    }
}

/// Looks at everything; cancelled and followed by `job`. Finding damage is no error here.
pub(crate) async fn verify(
    host: &Host,
    subject: Subject,
    depth: Depth,
    job: Option<&JobHandle>,
) -> Result<Verification, Error> {
    let (began, begun) = (Instant::now(), Timestamp::now());
    let ids = subject.layers.iter().map(|(_, layer, _)| layer.id);
    let ids: Vec<LayerId> = ids.collect();
    let roots = host.catalog.sums_of(ids.clone()).await?;
    let snapshot = subject.snapshot;
    let images = Arc::new(ImageCheck::new(subject.image_paths.clone(), job));
    let subject = Arc::new(subject);
    let (shared, known) = (subject.clone(), roots.clone());
    let (mut files, tasks) = blocking(move || Ok(quick_look(&shared, &known, depth))).await?;
    if depth == Depth::Full || !tasks.is_empty() {
        let images = (depth == Depth::Full).then_some(images);
        compare_content(&mut files, tasks, images, job).await?;
    }
    let now = host.catalog.sums_of(ids).await?;
    for file in &mut files {
        let FileRole::Layer { layer, .. } = &file.role else {
            continue;
        };
        if roots
            .get(layer)
            .is_some_and(|root| now.get(layer) != Some(root))
        {
            file.state = FileState::NotHashed;
            file.damage.clear();
            file.note = "it was merged with another meanwhile".into();
        }
    }
    hash_again(host, &files).await?;
    Ok(Verification {
        snapshot,
        depth,
        begun,
        took_micros: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        files,
    })
}

/// Lets layers be hashed again whose file of hashes is gone.
async fn hash_again(host: &Host, files: &[CheckedFile]) -> Result<(), Error> {
    let lost = files.iter().filter(|file| file.note == LOST);
    let changes: Vec<_> = lost
        .filter_map(|file| match &file.role {
            FileRole::Layer { layer, .. } => Some(Change::DeleteSums(*layer)),
            _ => None,
        })
        .collect();
    if !changes.is_empty() {
        host.catalog.commit(changes).await?;
        host.keeper.wake();
    }
    Ok(())
}

/// A layer whose content is to be compared.
struct Task {
    /// Which of the files.
    index: usize,
    file: File,
    stamp: Stamp,
    sums: Sums,
}

/// Manifest, headers, lengths.
fn quick_look(
    subject: &Subject,
    roots: &HashMap<LayerId, u128>,
    depth: Depth,
) -> (Vec<CheckedFile>, Vec<Task>) {
    let mut files = vec![look_at_manifest(subject)];
    // To open an image is to open all that it stands on; one by one only if something is wrong.
    let paths = &subject.image_paths;
    let top = subject.images.first();
    let opens = top.is_some_and(|path| open_image(path, paths).is_ok());
    let images = subject.images.iter();
    files.extend(images.map(|path| look_at_image(path, paths, opens)));
    let mut tasks = Vec::new();
    for (role, layer, below) in &subject.layers {
        let path = sums::path_of(subject.places.snapshots(), layer.id);
        let mut file = blank(role.clone(), &layer.path);
        match look_at_layer(&mut file, layer, below.as_deref()) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                file.state = FileState::Missing;
            }
            Err(cause) => unreadable(&mut file, 0, &cause),
            Ok((opened, stamp)) => {
                let sums = known_sums(&mut file, &path, layer.id, roots.get(&layer.id));
                if let Some(sums) = sums {
                    compare_length(&mut file, &stamp, &sums);
                    // Who has written to a file must not be believed; who has put it back from a
                    // backup may.
                    if depth == Depth::Full || stamp != sums.stamp {
                        tasks.push(Task {
                            index: files.len(),
                            file: opened,
                            stamp,
                            sums,
                        });
                    }
                }
            }
        }
        files.push(file);
    }
    (files, tasks)
}

fn blank(role: FileRole, path: &Path) -> CheckedFile {
    CheckedFile {
        role,
        path: path.to_owned(),
        bytes: 0,
        state: FileState::Fine,
        damage: Vec::new(),
        note: String::new(),
    }
}

fn unreadable(file: &mut CheckedFile, offset: u64, cause: &std::io::Error) {
    damaged(
        file,
        offset,
        file.bytes.saturating_sub(offset),
        format!("cannot be read ({cause})"),
    );
}

fn damaged(file: &mut CheckedFile, offset: u64, length: u64, what: impl Into<String>) {
    if file.state != FileState::Changed {
        file.state = FileState::Damaged;
    }
    file.damage.push(Damage {
        offset,
        length,
        what: what.into(),
    });
}

fn look_at_manifest(subject: &Subject) -> CheckedFile {
    let path = subject.dir.join(files::MANIFEST);
    let mut file = blank(FileRole::Manifest, &path);
    match std::fs::metadata(&path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            file.state = FileState::Missing;
            return file;
        }
        Err(cause) => {
            unreadable(&mut file, 0, &cause);
            return file;
        }
        Ok(found) => file.bytes = found.len(),
    }
    match Manifest::read(&subject.dir) {
        Ok(there) if there.id != subject.snapshot => {
            let length = file.bytes;
            damaged(&mut file, 0, length, "is the manifest of another snapshot");
        }
        Ok(there) if there != subject.manifest => {
            file.note = "it is older than the catalog; the next change brings it up to date".into();
        }
        Ok(_) => {}
        Err(cause) => {
            let length = file.bytes;
            damaged(&mut file, 0, length, cause.to_string());
        }
    }
    file
}

fn open_image(
    path: &Path,
    paths: &BTreeMap<memory_image::ImageId, PathBuf>,
) -> Result<MemoryImage, ImageError> {
    MemoryImage::open(path, &|id| paths.get(&id).cloned())
}

/// `opens`: that has been seen already.
fn look_at_image(
    path: &Path,
    paths: &BTreeMap<memory_image::ImageId, PathBuf>,
    opens: bool,
) -> CheckedFile {
    let mut file = blank(FileRole::Memory, path);
    match std::fs::metadata(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            file.state = FileState::Missing;
            return file;
        }
        Err(cause) => {
            unreadable(&mut file, 0, &cause);
            return file;
        }
        Ok(found) => file.bytes = found.len(),
    }
    // What is wrong with an image below is told of that one.
    if !opens
        && let Err(cause) = open_image(path, paths)
        && cause.path() == Some(path)
    {
        image_damage(&mut file, &cause);
    }
    file
}

/// What an error of a memory image says about where it is damaged.
fn image_damage(file: &mut CheckedFile, cause: &ImageError) {
    let (offset, length) = match cause {
        ImageError::DamagedSection { offset, length, .. }
        | ImageError::DamagedGroup { offset, length, .. } => (*offset, *length),
        ImageError::DamagedPage { offset, .. } => (*offset, memory_image::PAGE as u64),
        ImageError::DamagedPadding { offset, .. } => (*offset, 1),
        ImageError::WrongLength {
            expected, found, ..
        } => {
            let shorter = (*expected).min(*found);
            (shorter, (*expected).max(*found).saturating_sub(shorter))
        }
        ImageError::Io { offset, .. } => (*offset, file.bytes.saturating_sub(*offset)),
        _ => (0, file.bytes.min(4096)),
    };
    damaged(file, offset, length, cause.to_string());
}

/// A layer's place, length and header.
fn look_at_layer(
    file: &mut CheckedFile,
    layer: &Layer,
    below: Option<&Path>,
) -> std::io::Result<(File, Stamp)> {
    let opened = File::open(&layer.path)?;
    let stamp = Stamp::of(&opened)?;
    file.bytes = stamp.length;
    if layer.format == Format::Qcow2 {
        let mut start = Vec::new();
        (&opened).take(LOOKED_AT as u64).read_to_end(&mut start)?;
        match Header::parse(&start, stamp.length) {
            Err(cause) => damaged(file, cause.offset, 8, format!("{cause} (qcow2 header)")),
            Ok(header) if layer.ours && header.backing.as_deref() != below => {
                let says = header
                    .backing
                    .map_or("nothing".into(), |b| b.to_string_lossy().into_owned());
                let what = format!("says that it lies on {says}, which is not so");
                damaged(file, 8, 12, what);
            }
            Ok(_) => {}
        }
    }
    // Whether the last byte can be read says whether the file is there at all.
    if stamp.length > 0 {
        opened.read_exact_at(&mut [0], stamp.length - 1)?;
    }
    Ok((opened, stamp))
}

fn known_sums(
    file: &mut CheckedFile,
    path: &Path,
    layer: LayerId,
    root: Option<&u128>,
) -> Option<Sums> {
    let Some(root) = root else {
        if file.state == FileState::Fine {
            file.state = FileState::NotHashed;
        }
        return None;
    };
    let why = match Sums::read(path, layer) {
        Ok(Some(sums)) if sums.root() == *root => return Some(sums),
        Ok(Some(_)) => "is not the one that the catalog knows".to_owned(),
        Ok(None) => {
            if file.state == FileState::Fine {
                file.state = FileState::NotHashed;
                file.note = LOST.into();
            }
            return None;
        }
        Err(cause) => cause.to_string(),
    };
    // The layer may well be whole; but that nobody can say any more.
    let what = format!("the file of its hashes {} {why}", path.display());
    damaged(file, 0, file.bytes, what);
    None
}

fn compare_length(file: &mut CheckedFile, stamp: &Stamp, sums: &Sums) {
    let (was, is) = (sums.stamp.length, stamp.length);
    if was != is {
        file.state = FileState::Changed;
        file.damage.push(Damage {
            offset: was.min(is),
            length: was.max(is) - was.min(is),
            what: format!("it was {was} bytes long and is {is}"),
        });
    } else if stamp.modified != sums.stamp.modified {
        file.note = "its time of modification is not what it was".into();
    }
}

/// The memory images while their pages are compared with their hashes.
struct ImageCheck {
    paths: Arc<BTreeMap<memory_image::ImageId, PathBuf>>,
    done: AtomicU64,
    job: Option<JobHandle>,
}

impl ImageCheck {
    fn new(
        paths: Arc<BTreeMap<memory_image::ImageId, PathBuf>>,
        job: Option<&JobHandle>,
    ) -> ImageCheck {
        ImageCheck {
            paths,
            done: AtomicU64::new(0),
            job: job.cloned(),
        }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// What is wrong with which of the files. Those that cannot be opened have been told already.
    fn run(&self, files: Vec<(usize, PathBuf)>) -> Vec<(usize, ImageError)> {
        let mut found = Vec::new();
        let mut before = 0;
        for (at, path) in files {
            let Ok(image) = MemoryImage::open(&path, &|id| self.paths.get(&id).cloned()) else {
                continue;
            };
            let mut length = 0;
            let verified = image.verify_own(&mut |done, total| {
                length = total;
                self.done.store(before + done, Ordering::Relaxed);
                match self.job.as_ref().is_some_and(|job| job.check().is_err()) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            before += length;
            match verified {
                Ok(()) | Err(ImageError::Cancelled) => {}
                Err(cause) => found.push((at, cause)),
            }
        }
        found
    }
}

/// Compares the given layers and, if wanted, the memory images, in parallel.
async fn compare_content(
    files: &mut [CheckedFile],
    tasks: Vec<Task>,
    images: Option<Arc<ImageCheck>>,
    job: Option<&JobHandle>,
) -> Result<(), Error> {
    let layers_bytes: u64 = tasks.iter().map(|t| t.sums.stamp.length).sum();
    let wanted = images.is_some();
    let of_images = |(_, f): &(usize, &CheckedFile)| wanted && f.role == FileRole::Memory;
    let of_images = files.iter().enumerate().filter(of_images);
    let of_images: Vec<(usize, PathBuf)> = of_images.map(|(at, f)| (at, f.path.clone())).collect();
    let image_bytes: u64 = of_images
        .iter()
        .filter_map(|(at, _)| files.get(*at))
        .map(|f| f.bytes)
        .sum();
    let total = layers_bytes.saturating_add(image_bytes);
    let shared = Arc::new(Comparison::new(tasks));
    let stop = StopOnDrop(shared.clone());
    let threads = shared.clone();
    let layers = blocking(move || Ok(threads.run()));
    let checked = images.clone();
    let image = blocking(move || Ok(checked.map_or(Vec::new(), |c| c.run(of_images))));
    let both = async { tokio::join!(layers, image) };
    tokio::pin!(both);
    let (found, of_image) = loop {
        tokio::select! {
            done = &mut both => break done,
            () = tokio::time::sleep(TICK) => {
                if let Some(job) = job {
                    let done = shared.done.load(Ordering::Relaxed)
                        + images.as_ref().map_or(0, |images| images.done());
                    job.progress(done, total);
                    job.check()?;
                }
            }
        }
    };
    drop(stop);
    for (at, cause) in of_image? {
        if let Some(file) = files.get_mut(at) {
            image_damage(file, &cause);
        }
    }
    for (index, changed, damage) in found? {
        let Some(file) = files.get_mut(index) else {
            continue;
        };
        if damage.is_empty() {
            continue;
        }
        file.state = match (changed, file.state) {
            (true, _) | (_, FileState::Changed) => FileState::Changed,
            _ => FileState::Damaged,
        };
        file.damage.extend(damage);
    }
    Ok(())
}

/// Whoever gives up waiting stops the threads, too.
struct StopOnDrop(Arc<Comparison>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// The layers' segments, dealt out to threads.
struct Comparison {
    tasks: Vec<Task>,
    /// Task and first segment of each unit.
    units: Vec<(usize, u64)>,
    next: AtomicUsize,
    done: AtomicU64,
    stop: AtomicBool,
    /// Segments that differ, by task.
    wrong: Mutex<Vec<(usize, u64, String)>>,
}

impl Comparison {
    fn new(tasks: Vec<Task>) -> Comparison {
        let mut units = Vec::new();
        for (at, task) in tasks.iter().enumerate() {
            let mut first = 0;
            while first < count(task.sums.stamp.length) {
                units.push((at, first));
                first += UNIT;
            }
        }
        Comparison {
            tasks,
            units,
            next: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            wrong: Mutex::default(),
        }
    }

    /// Compares everything; answers for each file whether somebody wrote to it, and where it
    /// differs.
    fn run(&self) -> Vec<(usize, bool, Vec<Damage>)> {
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        std::thread::scope(|scope| {
            for _ in 0..threads.min(MOST_THREADS) {
                scope.spawn(|| self.work());
            }
        });
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        wrong.sort();
        let of_task = |(at, task): (usize, &Task)| {
            let changed = task.stamp != task.sums.stamp;
            let own = wrong.iter().filter(|(of, ..)| *of == at);
            let damage = own.map(|(_, segment, what)| {
                let extent = extent(*segment, task.sums.stamp.length);
                let what = match changed {
                    true => format!("{what}; the file was written to after it was hashed"),
                    false => what.clone(),
                };
                Damage {
                    offset: extent.start,
                    length: extent.end - extent.start,
                    what,
                }
            });
            (task.index, changed, damage.take(MOST_PLACES).collect())
        };
        self.tasks.iter().enumerate().map(of_task).collect()
    }

    fn work(&self) {
        let mut reader: Option<(usize, Reader<'_>)> = None;
        while let Some((at, first)) = self.units.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let Some(task) = self.tasks.get(*at) else {
                continue;
            };
            if reader.as_ref().is_none_or(|(of, _)| of != at) {
                reader = Some((*at, Reader::new(&task.file, task.sums.stamp.length)));
            }
            let Some((_, reader)) = &mut reader else {
                continue;
            };
            let segments = task.sums.segments.iter().zip(0u64..);
            let first_at = usize::try_from(*first).unwrap_or(usize::MAX);
            for (expected, index) in segments.skip(first_at).take(UNIT as usize) {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let what = match reader.hash(index) {
                    Ok((hash, _)) if hash == *expected => None,
                    Ok(_) => Some("the content does not match its hash".to_owned()),
                    Err(cause) => Some(format!("cannot be read ({cause})")),
                };
                if let Some(what) = what {
                    let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
                    wrong.push((*at, index, what));
                }
                let extent = extent(index, task.sums.stamp.length);
                self.done
                    .fetch_add(extent.end - extent.start, Ordering::Relaxed);
            }
        }
    }
}

/// What a verification with bad files means to whoever relies on the snapshot.
pub(crate) fn refuse_bad(verification: &Verification) -> Result<(), Error> {
    let bad: Vec<_> = verification.bad().map(CheckedFile::sentence).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::DamagedSnapshot {
        snapshot: verification.snapshot,
        findings: bad.join("; "),
    })
}
