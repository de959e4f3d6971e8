//! Debian's packages without touching the system's package sources.
//!
//! apt runs with a source list and package lists of its own in the cache. The list is derived from
//! the system's: the same mirrors and keys, this release only, plus its backports. Packages are
//! installed into the system ([`Apt::install`], needs root) or only downloaded and unpacked into the
//! cache ([`Apt::unpack`], needs no rights).

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Failure, Outcome, process, workspace};

const LISTS_LIVE: Duration = Duration::from_secs(3600);

/// What is taken from the backports. All else, and what these depend on, stays as the release has
/// it: a machine is not to get a new service manager because a benchmark wants libvirt.
const FROM_BACKPORTS: &str = "src:qemu src:libvirt src:seabios";

/// apt with sources of its own.
pub struct Apt {
    folder: PathBuf,
    codename: String,
}

impl Apt {
    /// Derives the sources. The package lists are fetched when they are first needed.
    pub fn new() -> Result<Self, Failure> {
        let (codename, text) = sources::derive()?;
        let folder = workspace::cache("apt")?;
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let file = folder.join("xtask.sources");
        if fs::read_to_string(&file).ok().as_deref() != Some(&text) {
            fs::write(&file, text)?;
            remove_if_there(&folder.join("fetched"))?;
        }
        let preferences = format!(
            "Package: {FROM_BACKPORTS}\nPin: release n={codename}-backports\nPin-Priority: 600\n"
        );
        fs::write(folder.join("preferences"), preferences)?;
        Ok(Self { folder, codename })
    }

    /// Installs packages into the system, those of [`FROM_BACKPORTS`] from this release's backports,
    /// and says so.
    pub fn install(&self, packages: &[&str]) -> Outcome {
        self.fetch_lists()?;
        eprintln!(
            "installing {} with apt from {} and {} ({})",
            packages.join(", "),
            self.codename,
            self.backports(),
            self.mirrors()?
        );
        let mut command = self.install_command(packages);
        process::quiet(&mut command)?;
        Ok(())
    }

    /// What installing packages would do, as apt says it.
    pub fn simulate_install(&self, packages: &[&str]) -> Result<String, Failure> {
        self.fetch_lists()?;
        Ok(process::quiet(
            self.install_command(packages).arg("--simulate"),
        )?)
    }

    /// Downloads packages and unpacks them into the cache's folder `name`; gives that folder. The packages' versions
    /// are in its file `versions`. Done once; deleting the cache gets newer versions.
    pub fn unpack(&self, name: &str, packages: &[Package]) -> Result<PathBuf, Failure> {
        let folder = workspace::cache(name)?;
        let wanted = packages
            .iter()
            .map(|package| package.0)
            .collect::<Vec<_>>()
            .join(" ");
        let (done, root) = (folder.join("packages"), folder.join("root"));
        if fs::read_to_string(&done).ok().as_deref() == Some(&wanted) {
            return Ok(folder);
        }
        remove_if_there(&done)?;
        for name in ["root", "archives"] {
            drop(fs::remove_dir_all(folder.join(name)));
            fs::create_dir_all(folder.join(name))?;
        }
        self.fetch_lists()?;
        let names = packages
            .iter()
            .map(|package| self.resolve(package))
            .collect::<Result<Vec<_>, _>>()?;
        eprintln!("downloading {} from {}", names.join(", "), self.mirrors()?);
        process::quiet(
            self.command("apt-get")
                .arg("download")
                .args(&names)
                .current_dir(folder.join("archives")),
        )?;
        let mut versions = Vec::new();
        for entry in fs::read_dir(folder.join("archives"))? {
            let entry = entry?;
            process::quiet(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(entry.path())
                    .arg(&root),
            )?;
            versions.push(entry.file_name().to_string_lossy().into_owned());
        }
        versions.sort();
        fs::write(folder.join("versions"), versions.join("\n"))?;
        fs::write(&done, wanted)?;
        Ok(folder)
    }

    /// The package itself, or what a package that only names another depends on.
    fn resolve(&self, package: &Package) -> Result<String, Failure> {
        let Package(name, Some(prefix)) = package else {
            return Ok(package.0.to_owned());
        };
        let depends = process::quiet(self.command("apt-cache").args(["depends", name]))?;
        depends
            .lines()
            .find_map(|line| {
                let target = line.trim().strip_prefix("Depends: ")?;
                target.starts_with(prefix).then(|| target.to_owned())
            })
            .ok_or_else(|| format!("the package {name} depends on no {prefix}* package").into())
    }

    fn install_command(&self, packages: &[&str]) -> Command {
        let mut command = self.command("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages);
        command
    }

    /// Old lists name packages that the mirror has no more.
    fn fetch_lists(&self) -> Outcome {
        let done = self.folder.join("fetched");
        let age = fs::metadata(&done)
            .and_then(|done| done.modified())
            .map(|when| when.elapsed());
        if let Ok(Ok(age)) = age
            && age < LISTS_LIVE
        {
            return Ok(());
        }
        eprintln!("fetching package lists from {}", self.mirrors()?);
        process::quiet(self.command("apt-get").args(["update", "--error-on=any"]))?;
        fs::write(done, "")?;
        Ok(())
    }

    fn backports(&self) -> String {
        format!("{}-backports", self.codename)
    }

    fn mirrors(&self) -> Result<String, Failure> {
        let text = fs::read_to_string(self.folder.join("xtask.sources"))?;
        let mut uris: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("URIs: "))
            .collect();
        uris.dedup();
        Ok(uris.join(", "))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut set = |key: &str, value: &Path| {
            command.arg("-o").arg(format!("{key}={}", value.display()));
        };
        set("Dir::Etc::SourceList", &self.folder.join("xtask.sources"));
        set("Dir::Etc::SourceParts", Path::new("/dev/null"));
        set("Dir::Etc::Preferences", &self.folder.join("preferences"));
        set("Dir::Etc::PreferencesParts", Path::new("/dev/null"));
        set("Dir::State::Lists", &self.folder.join("lists"));
        set("Dir::Cache", &self.folder.join("cache"));
        // The cache may lie where apt's own unprivileged user cannot go.
        set("APT::Sandbox::User", Path::new("root"));
        command
    }
}

/// A package to unpack: its name, and for a package that only depends on the real one, how the real
/// one's name starts.
pub struct Package(pub &'static str, pub Option<&'static str>);

fn remove_if_there(file: &Path) -> std::io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
