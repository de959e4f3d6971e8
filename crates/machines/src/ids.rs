//! Identities. All GUIDs print in upper case without braces, as Hyper-V prints them, and parse in
//! any case, with or without braces.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

macro_rules! guid {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identity.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                $name(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = Uuid::encode_buffer();
                f.write_str(self.0.hyphenated().encode_upper(&mut buffer))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map($name)
            }
        }
    };
}

guid!(
    /// A virtual machine.
    MachineId
);
guid!(
    /// A snapshot.
    SnapshotId
);
guid!(
    /// One file of a disk's chain.
    LayerId
);
guid!(
    /// A memory image: RAM and device state of one instant.
    ImageId
);
guid!(
    /// A job.
    JobId
);

/// A device within one machine's settings: the part of its RASD's `InstanceID` after the
/// configuration's GUID, for example `83F8638B-8DCA-4152-9EDA-2CA8B33039B4\0\0\D`. The same
/// device keeps its id in every snapshot. Compares without regard to case.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceId(pub String);

impl PartialEq for DeviceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for DeviceId {}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.0)
    }
}
