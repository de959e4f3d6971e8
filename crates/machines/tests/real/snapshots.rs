//! Snapshots.

use crate::site::*;
