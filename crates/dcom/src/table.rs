//! Objects that clients hold: identities, interfaces, references, pings, garbage (MS-DCOM 3.1.1.1).
//!
//! Plain data under one lock of its owner; time comes in from outside.
//!
//! An object goes when its last reference is released, or when for three ping periods nobody has
//! vouched for it: it is in no ping set (sets go after as long without a ping), and nobody has used
//! it since it left its last set or since the connection that used it last has ended.

use crate::exporter::{TableLimits, Usage};
use crate::hresult::HResult;
use crate::object::Object;
use crate::objref::StandardReference;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Three ping periods of two minutes (MS-DCOM 3.1.1.2).
pub(crate) const PATIENCE: Duration = Duration::from_secs(360);
/// References that a client gets at once. Windows gives five; but clients (impacket) release one and
/// mean all, and who needs more asks for them.
pub(crate) const REFERENCES: u32 = 1;

/// An interface of an object, as it was given out.
#[derive(Clone, Copy)]
struct Given {
    ipid: Uuid,
    references: u64,
}

struct Entry {
    object: Arc<dyn Object>,
    /// The account that may call it; none if anybody may.
    owner: Option<String>,
    interfaces: HashMap<Uuid, Given>,
    /// The connection that used it last.
    connection: u64,
    /// Since when nobody vouches for it, but for the sets it is in.
    abandoned: Option<Instant>,
    /// How many sets it is in.
    sets: u32,
}

impl Entry {
    fn leave_set(&mut self, since: Instant) {
        self.sets = self.sets.saturating_sub(1);
        self.abandoned = Some(since);
    }
}

/// OIDs that one client pings together.
struct PingSet {
    peer: IpAddr,
    oids: HashSet<u64>,
    last: Instant,
}

/// What a call on an IPID means.
pub(crate) struct Found {
    pub(crate) oid: u64,
    pub(crate) object: Arc<dyn Object>,
    pub(crate) interface: Uuid,
}

/// Why an IPID cannot be called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotFound {
    /// It was never given out, or the object is gone.
    Gone,
    /// It belongs to another account.
    Denied,
}

/// Changes of a ping set.
pub(crate) struct SetChange<'a> {
    pub(crate) set: u64,
    pub(crate) add: &'a [u64],
    pub(crate) remove: &'a [u64],
}

/// Why a ping set cannot be changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetError {
    /// There is no such set, or it is another client's.
    Unknown,
    /// The client has too many.
    Limit,
}

pub(crate) struct Table {
    oxid: u64,
    limits: TableLimits,
    entries: HashMap<u64, Entry>,
    ipids: HashMap<Uuid, (u64, Uuid)>,
    sets: HashMap<u64, PingSet>,
    of_account: HashMap<Option<String>, usize>,
}

impl Table {
    pub(crate) fn new(oxid: u64, limits: TableLimits) -> Self {
        Table {
            oxid,
            limits,
            entries: HashMap::new(),
            ipids: HashMap::new(),
            sets: HashMap::new(),
            of_account: HashMap::new(),
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            objects: self.entries.len(),
            interfaces: self.ipids.len(),
            ping_sets: self.sets.len(),
        }
    }

    /// Takes in an object and gives out a first reference.
    pub(crate) fn export(
        &mut self,
        object: Arc<dyn Object>,
        interface: Uuid,
        owner: Option<&str>,
        connection: u64,
    ) -> Result<StandardReference, HResult> {
        if !has_interface(&*object, &interface) {
            return Err(HResult::NO_INTERFACE);
        }
        let owner = owner.map(str::to_owned);
        let of_account = self.of_account.get(&owner).copied().unwrap_or(0);
        if self.entries.len() >= self.limits.objects || of_account >= self.limits.objects_of_account
        {
            self.make_room(&owner)?;
        }
        // Random, because an OID is all that a ping shows.
        let oid = loop {
            let (oid, _) = Uuid::new_v4().as_u64_pair();
            if oid != 0 && !self.entries.contains_key(&oid) {
                break oid;
            }
        };
        *self.of_account.entry(owner.clone()).or_default() += 1;
        let entry = Entry {
            object,
            owner,
            interfaces: HashMap::new(),
            connection,
            abandoned: None,
            sets: 0,
        };
        self.entries.insert(oid, entry);
        self.export_again(oid, interface, REFERENCES)
    }

    /// Forgets the object of an account that was abandoned first.
    fn make_room(&mut self, owner: &Option<String>) -> Result<(), HResult> {
        let abandoned = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.owner == *owner && entry.sets == 0)
            .filter_map(|(oid, entry)| Some((entry.abandoned?, *oid)))
            .min();
        match abandoned {
            Some((_, oid)) => {
                self.forget(oid);
                Ok(())
            }
            None => Err(HResult::OUT_OF_MEMORY),
        }
    }

    /// Gives out more references to an object that is there.
    pub(crate) fn export_again(
        &mut self,
        oid: u64,
        interface: Uuid,
        references: u32,
    ) -> Result<StandardReference, HResult> {
        let entry = self.entries.get_mut(&oid).ok_or(HResult::DISCONNECTED)?;
        if !has_interface(&*entry.object, &interface) {
            return Err(HResult::NO_INTERFACE);
        }
        let given = entry.interfaces.entry(interface).or_insert_with(|| Given {
            ipid: Uuid::new_v4(),
            references: 0,
        });
        given.references = given.references.saturating_add(references.into());
        self.ipids.insert(given.ipid, (oid, interface));
        Ok(StandardReference {
            flags: 0,
            references,
            oxid: self.oxid,
            oid,
            ipid: given.ipid,
        })
    }

    /// What an IPID means to an account. The connection is the last one that used the object.
    pub(crate) fn find(
        &mut self,
        ipid: &Uuid,
        account: Option<&str>,
        connection: u64,
    ) -> Result<Found, NotFound> {
        let (oid, interface) = *self.ipids.get(ipid).ok_or(NotFound::Gone)?;
        let entry = self.entries.get_mut(&oid).ok_or(NotFound::Gone)?;
        if entry.owner.is_some() && entry.owner.as_deref() != account {
            return Err(NotFound::Denied);
        }
        entry.connection = connection;
        entry.abandoned = None;
        Ok(Found {
            oid,
            object: entry.object.clone(),
            interface,
        })
    }

    /// Adds references to an interface.
    pub(crate) fn add_references(&mut self, ipid: &Uuid, more: u32) -> bool {
        let Some((oid, interface)) = self.ipids.get(ipid) else {
            return false;
        };
        let entry = self.entries.get_mut(oid);
        let given = entry.and_then(|entry| entry.interfaces.get_mut(interface));
        match given {
            Some(given) => {
                given.references = given.references.saturating_add(more.into());
                true
            }
            None => false,
        }
    }

    /// Takes references away; more than there are is as good as all. The object goes with its last.
    pub(crate) fn release(&mut self, ipid: &Uuid, fewer: u32) {
        let Some(&(oid, interface)) = self.ipids.get(ipid) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(&oid) else {
            return;
        };
        if let Some(given) = entry.interfaces.get_mut(&interface) {
            given.references = given.references.saturating_sub(fewer.into());
        }
        if entry.interfaces.values().all(|given| given.references == 0) {
            self.forget(oid);
        }
    }

    fn forget(&mut self, oid: u64) {
        let Some(entry) = self.entries.remove(&oid) else {
            return;
        };
        for given in entry.interfaces.values() {
            self.ipids.remove(&given.ipid);
        }
        if entry.sets > 0 {
            for set in self.sets.values_mut() {
                set.oids.remove(&oid);
            }
        }
        if let Some(count) = self.of_account.get_mut(&entry.owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_account.remove(&entry.owner);
            }
        }
    }

    /// A client says that it still holds the objects of a set.
    pub(crate) fn ping(&mut self, set: u64, peer: IpAddr, now: Instant) -> Result<(), SetError> {
        match self.sets.get_mut(&set) {
            Some(found) if found.peer == peer => {
                found.last = now;
                Ok(())
            }
            _ => Err(SetError::Unknown),
        }
    }

    /// Makes or changes a set; gives its number. Objects that are gone are left out without a word:
    /// clients release and ping as they like.
    pub(crate) fn change_set(
        &mut self,
        change: &SetChange<'_>,
        peer: IpAddr,
        now: Instant,
    ) -> Result<u64, SetError> {
        let number = match change.set {
            0 => self.new_set(peer, now)?,
            set => {
                self.ping(set, peer, now)?;
                set
            }
        };
        let Some(set) = self.sets.get_mut(&number) else {
            return Err(SetError::Unknown);
        };
        for oid in change.remove {
            if set.oids.remove(oid)
                && let Some(entry) = self.entries.get_mut(oid)
            {
                // Not at once: impacket takes an object out when it releases one of its interfaces.
                entry.leave_set(now);
            }
        }
        for oid in change.add {
            if let Some(entry) = self.entries.get_mut(oid)
                && set.oids.insert(*oid)
            {
                entry.sets = entry.sets.saturating_add(1);
            }
        }
        Ok(number)
    }

    /// Numbers fit into 16 bits: impacket stops pinging otherwise.
    fn new_set(&mut self, peer: IpAddr, now: Instant) -> Result<u64, SetError> {
        let of_peer = self.sets.values().filter(|set| set.peer == peer).count();
        if of_peer >= self.limits.ping_sets_of_peer || self.sets.len() >= self.limits.ping_sets {
            return Err(SetError::Limit);
        }
        let number = loop {
            let (random, _) = Uuid::new_v4().as_u64_pair();
            let number = random & 0xffff;
            if number != 0 && !self.sets.contains_key(&number) {
                break number;
            }
        };
        let set = PingSet {
            peer,
            oids: HashSet::new(),
            last: now,
        };
        self.sets.insert(number, set);
        Ok(number)
    }

    /// A connection has ended; what only it used is abandoned now.
    pub(crate) fn disconnected(&mut self, connection: u64, now: Instant) {
        for entry in self.entries.values_mut() {
            if entry.connection == connection {
                entry.abandoned.get_or_insert(now);
            }
        }
    }

    /// Drops what nobody holds any more.
    pub(crate) fn collect(&mut self, now: Instant) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= PATIENCE;
        let expired: Vec<u64> = self
            .sets
            .iter()
            .filter(|(_, set)| is_over(set.last))
            .map(|(number, _)| *number)
            .collect();
        for number in expired {
            let Some(set) = self.sets.remove(&number) else {
                continue;
            };
            for oid in &set.oids {
                if let Some(entry) = self.entries.get_mut(oid) {
                    entry.leave_set(set.last);
                }
            }
        }
        let garbage: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.sets == 0 && entry.abandoned.is_some_and(is_over))
            .map(|(oid, _)| *oid)
            .collect();
        for oid in garbage {
            self.forget(oid);
        }
    }
}

const IUNKNOWN: Uuid = uuid::uuid!("00000000-0000-0000-c000-000000000046");

fn has_interface(object: &dyn Object, interface: &Uuid) -> bool {
    *interface == IUNKNOWN || object.interfaces().contains(interface)
}

#[cfg(test)]
mod tests;
