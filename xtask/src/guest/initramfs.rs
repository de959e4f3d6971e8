//! The guest's initial file system, as the cpio archive (format `newc`) that the kernel unpacks.

/// What goes into it.
pub struct Contents {
    /// Our program, which becomes `/init`.
    pub program: Vec<u8>,
    /// BusyBox, for a shell.
    pub busybox: Vec<u8>,
    /// Kernel modules: file name and contents, in the order in which they are to be loaded.
    pub modules: Vec<(String, Vec<u8>)>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Device number of `/dev/console`, which the kernel opens before our program runs.
const CONSOLE: (u32, u32) = (5, 1);

/// Makes the archive. It is not compressed: loading a few MiB more is quicker than unpacking.
pub fn build(contents: &Contents) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        archive.add(folder, DIRECTORY, (0, 0), &[]);
    }
    archive.add("dev/console", CHARACTER_DEVICE, CONSOLE, &[]);
    archive.add("init", PROGRAM, (0, 0), &contents.program);
    archive.add("bin/busybox", PROGRAM, (0, 0), &contents.busybox);
    archive.add("bin/sh", LINK, (0, 0), b"busybox");
    for (place, (name, module)) in contents.modules.iter().enumerate() {
        archive.add(&format!("modules/{place:02}-{name}"), FILE, (0, 0), module);
    }
    archive.add("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        // inode, mode, uid, gid, links, mtime, size, device (2), device made (2), name size, check
        let header = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
