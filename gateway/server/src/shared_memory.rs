//! System shared memory that clients on this machine register by name: tensors are read out of
//! it and written into it instead of going through the connection.
//!
//! What a client names is a file of `/dev/shm` and nothing else: the key is one name without
//! `/`, opened below that folder without following links, and must be an ordinary file. Nothing
//! is mapped: the owner may cut the file short at any time, which would kill whoever has it
//! mapped, while a read of it only comes back short. Inputs are copied before anything looks at
//! them, because their owner may write to them meanwhile. A region belongs to whoever registered
//! it; for others it does not exist.
//!
//! Whether a caller may come here at all (it must be a program on this machine) is the ingress's
//! business: `ingress/memory.rs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags};
use sluice_tensor::TENSOR_BYTES_MAX;

use crate::auth::Identity;
use crate::config;
use crate::error::{Error, Kind, Result};
use crate::observe::Metrics;
use crate::pipeline::Parameter;

/// Where POSIX keeps shared memory on Linux.
const FOLDER: &str = "/dev/shm";

/// Longest name of a region, and of a key: what a file may be called.
const NAME_BYTES_MAX: usize = 255;

/// What begins the names of POSIX semaphores, which lie in the same folder and are nobody's
/// tensors.
const SEMAPHORES: &str = "sem.";

/// Most characters of a name from outside that are said back.
const SHOWN_CHARACTERS_MAX: usize = 128;

/// The parameters by which a tensor says that it lies in a region: its name, how many bytes, and
/// where they begin.
pub const PARAMETERS: [&str; 3] = ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"];

/// Whose a region is: the tenant's, or the token's where it names no tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Every token of this owner.
    Owner(Arc<str>),
    /// This token; or everybody, where no token is asked for.
    Token(Arc<str>),
}

impl Holder {
    /// Whose the regions are that this caller registers.
    pub fn of(identity: &Identity) -> Self {
        match &identity.owner {
            Some(owner) => Self::Owner(Arc::clone(owner)),
            None => Self::Token(Arc::clone(&identity.name)),
        }
    }
}

/// A part of the shared memory of some name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The name of the shared memory.
    pub key: String,
    /// Where it begins in there.
    pub offset: u64,
    /// How long it is.
    pub byte_size: u64,
}

/// Which part of a region a tensor lies in, as a request says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The region's name.
    pub region: Arc<str>,
    /// Where the part begins in the region.
    pub offset: u64,
    /// How long it is.
    pub byte_size: u64,
}

impl Place {
    /// Reads a tensor's parameters. `None` if it does not lie in a region.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for half of it, or values of other types.
    pub fn read(parameters: &[(Arc<str>, Parameter)], tensor: &str) -> Result<Option<Self>> {
        // A name that comes twice over gRPC means the last one.
        let of =
            |name: &str| parameters.iter().rev().find(|(known, _)| **known == *name).map(|(_, value)| value);
        let [region, byte_size, offset] = PARAMETERS.map(of);
        if region.is_none() && byte_size.is_none() && offset.is_none() {
            return Ok(None);
        }
        let tensor = shown(tensor);
        let Some(region) = region else {
            let alone =
                [byte_size, offset].into_iter().zip(&PARAMETERS[1..]).find(|(value, _)| value.is_some());
            return match alone {
                None => Ok(None),
                Some((_, alone)) => Err(bad(format!(
                    "'{alone}' can not be specified without 'shared_memory_region' parameter for tensor '{tensor}'"
                ))),
            };
        };
        let wrong = |name: &str, kind: &str| {
            bad(format!("invalid value type for '{name}' parameter for tensor '{tensor}', expected {kind}."))
        };
        let Parameter::Text(region) = region else { return Err(wrong(PARAMETERS[0], "string_param")) };
        let number = |name: &str, value: &Parameter| match value {
            Parameter::Integer(value) => u64::try_from(*value).map_err(|_| wrong(name, "0 or more")),
            Parameter::Unsigned(value) => Ok(*value),
            _ => Err(wrong(name, "int64_param")),
        };
        let byte_size = byte_size.ok_or_else(|| {
            bad(format!(
                "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for \
                 tensor '{tensor}'"
            ))
        })?;
        let offset = offset.map_or(Ok(0), |offset| number(PARAMETERS[2], offset))?;
        Ok(Some(Self { region: Arc::clone(region), offset, byte_size: number(PARAMETERS[1], byte_size)? }))
    }
}

#[derive(Debug)]
struct Region {
    segment: Segment,
    file: Arc<File>,
}

type Regions = BTreeMap<(Holder, String), Region>;

/// The regions of everybody.
pub struct SharedMemory {
    bounds: config::SharedMemory,
    regions: Mutex<Regions>,
    metrics: Arc<Metrics>,
}

impl SharedMemory {
    /// Nothing is registered yet.
    pub fn new(bounds: &config::SharedMemory, metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { bounds: bounds.clone(), regions: Mutex::default(), metrics: Arc::clone(metrics) })
    }

    /// Whether clients may use it.
    pub fn is_enabled(&self) -> bool {
        self.bounds.enabled
    }

    /// Registers a segment under a name.
    ///
    /// # Errors
    /// [`Kind::AlreadyExists`] for a name that is taken, whatever it stands for;
    /// [`Kind::BadRequest`] for a malformed name, a key that is no shared memory which may be
    /// opened, or a segment that is not inside; [`Kind::TenantLimit`] when too much is registered.
    pub fn register(&self, holder: &Holder, name: &str, segment: Segment) -> Result<()> {
        let registered = self.try_register(holder, name, segment);
        if registered.is_err() {
            self.metrics.rejected("shared_memory");
        }
        registered
    }

    fn try_register(&self, holder: &Holder, name: &str, segment: Segment) -> Result<()> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err(bad(format!("a region's name has 1 to {NAME_BYTES_MAX} printable bytes")));
        }
        let id = (holder.clone(), name.to_owned());
        if self.lock().contains_key(&id) {
            return Err(taken(name));
        }
        let file = open(Path::new(FOLDER), &segment.key, &self.bounds.key_prefix)?;
        let end = segment.offset.checked_add(segment.byte_size).filter(|_| segment.byte_size > 0);
        let length = file.metadata().map_err(|error| cannot_open(&segment.key, &error))?.len();
        if end.is_none_or(|end| end > length) {
            return Err(bad(format!(
                "failed to register shared memory region '{}': invalid args",
                shown(name)
            )));
        }
        let mut regions = self.lock();
        if regions.contains_key(&id) {
            return Err(taken(name));
        }
        let bytes = bytes_of(&regions).saturating_add(segment.byte_size);
        if regions.len() >= self.bounds.regions_max || bytes > self.bounds.bytes_max {
            return Err(Error::new(Kind::TenantLimit, "too much shared memory is registered"));
        }
        regions.insert(id, Region { segment, file: Arc::new(file) });
        self.count(&regions);
        Ok(())
    }

    /// Forgets a region of that name, or all of the holder's. One that is not there is forgotten
    /// already. Requests that use it keep it until they end.
    pub fn unregister(&self, holder: &Holder, name: Option<&str>) {
        let mut regions = self.lock();
        regions.retain(|(owner, known), _| owner != holder || name.is_some_and(|name| name != known));
        self.count(&regions);
    }

    /// The regions of a holder, by their names; or the one of that name.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name that the holder has not registered.
    pub fn status(&self, holder: &Holder, name: Option<&str>) -> Result<Vec<(String, Segment)>> {
        let regions = self.lock();
        let own = regions
            .iter()
            .filter(|((owner, known), _)| owner == holder && name.is_none_or(|name| name == known));
        let own: Vec<_> = own.map(|((_, known), region)| (known.clone(), region.segment.clone())).collect();
        match name {
            Some(name) if own.is_empty() => Err(Error::new(
                Kind::NotFound,
                format!("Unable to find system shared memory region: '{}'", shown(name)),
            )),
            _ => Ok(own),
        }
    }

    /// A part of a region, to be read or written. It stays when the region is unregistered.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a region that the holder has not registered,
    /// [`Kind::BadRequest`] for a part that is not inside.
    pub fn part(&self, holder: &Holder, place: Place) -> Result<Part> {
        let regions = self.lock();
        let name = &place.region;
        let found = regions.get(&(holder.clone(), (**name).to_owned())).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("Unable to find shared memory region: '{}'", shown(name)))
        })?;
        let outside = |what: &str| bad(format!("Invalid {what} for shared memory region: '{}'", shown(name)));
        let size = found.segment.byte_size;
        if place.offset >= size {
            return Err(outside("offset"));
        }
        if place.offset.checked_add(place.byte_size).is_none_or(|end| end > size) {
            return Err(outside("offset + byte size"));
        }
        // The region is inside its file, and the part inside its region.
        let start = found.segment.offset.saturating_add(place.offset);
        Ok(Part { file: Arc::clone(&found.file), start, place })
    }

    fn count(&self, regions: &Regions) {
        self.metrics.shared_memory(regions.len(), bytes_of(regions));
    }

    fn lock(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(regions: &Regions) -> u64 {
    regions.values().fold(0, |sum, region| sum.saturating_add(region.segment.byte_size))
}

/// A part of a region that a request uses.
#[derive(Debug, Clone)]
pub struct Part {
    file: Arc<File>,
    start: u64,
    place: Place,
}

impl Part {
    /// How many bytes there are to read.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] for more than a tensor may have.
    pub fn bytes_to_read(&self) -> Result<usize> {
        let bytes = usize::try_from(self.place.byte_size).unwrap_or(usize::MAX);
        if bytes > TENSOR_BYTES_MAX {
            let region = shown(&self.place.region);
            let message = format!(
                "{bytes} bytes of shared memory region '{region}' are more than the {TENSOR_BYTES_MAX} of a tensor"
            );
            return Err(Error::new(Kind::TooLarge, message));
        }
        Ok(bytes)
    }

    /// Copies it out. What its owner writes meanwhile is in the copy or not; nothing changes it
    /// afterwards.
    ///
    /// # Errors
    /// As [`Part::bytes_to_read`]; [`Kind::BadRequest`] if the memory was cut short.
    pub fn read(&self) -> Result<Bytes> {
        let mut data = vec![0; self.bytes_to_read()?];
        self.file.read_exact_at(&mut data, self.start).map_err(|error| self.fault("be read", &error))?;
        Ok(data.into())
    }

    /// Whether so many bytes of an output have room in it.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] if not, or if the memory was cut short.
    pub fn check_room(&self, output: &str, bytes: usize) -> Result<()> {
        let needed = u64::try_from(bytes).unwrap_or(u64::MAX);
        if needed > self.place.byte_size {
            // Triton's words.
            return Err(bad(format!(
                "shared memory size specified with the request for output '{output}' ({} bytes) should be at \
                 least {bytes} bytes to hold the results",
                self.place.byte_size
            )));
        }
        // Writing would make a file longer that was cut short: memory that nobody registered.
        let length = self.file.metadata().map_err(|error| self.fault("be written", &error))?.len();
        if self.start.saturating_add(needed) > length {
            return Err(self.fault("be written", &"it is shorter than it was registered"));
        }
        Ok(())
    }

    /// Writes to its beginning. Between [`Part::check_room`] and this the owner may still cut the
    /// memory short; then it grows again, but not beyond what was registered.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] if there is no memory left for it.
    pub fn write(&self, data: &[u8]) -> Result<()> {
        self.file.write_all_at(data, self.start).map_err(|error| self.fault("be written", &error))
    }

    fn fault(&self, what: &str, why: &dyn std::fmt::Display) -> Error {
        let region = shown(&self.place.region);
        bad(format!("shared memory region '{region}' cannot {what} as far as it was registered"))
            .with_detail(why.to_string())
    }
}

/// Opens a name below a folder, without leaving it.
fn open(folder: &Path, key: &str, prefix: &str) -> Result<File> {
    // Programs write the name with a slash in front, as shm_open wants it.
    let name = key.strip_prefix('/').unwrap_or(key);
    let is_name = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(['/', '\0'])
        && !matches!(name, "." | "..")
        && !name.starts_with(SEMAPHORES)
        && name.starts_with(prefix);
    if !is_name {
        return Err(cannot_open(key, &"no name that may be used"));
    }
    let fault = |error: rustix::io::Errno| cannot_open(key, &error);
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, directory, Mode::empty()).map_err(fault)?;
    // Not blocking: the name may be of a pipe that nobody writes to.
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(&folder, name, flags, Mode::empty()).map_err(fault)?;
    let status = rustix::fs::fstat(&file).map_err(fault)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(cannot_open(key, &"no ordinary file"));
    }
    Ok(file.into())
}

fn bad(message: String) -> Error {
    Error::new(Kind::BadRequest, message)
}

/// The same for whatever is wrong with a key, so that nobody can look around with it.
fn cannot_open(key: &str, why: &dyn std::fmt::Display) -> Error {
    bad(format!("Unable to open shared memory region: '{}'", shown(key))).with_detail(why.to_string())
}

fn taken(name: &str) -> Error {
    let message = format!("shared memory region '{}' already in manager", shown(name));
    Error::new(Kind::AlreadyExists, message)
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS_MAX).collect()
}

#[cfg(test)]
#[path = "shared_memory_tests.rs"]
mod tests;
