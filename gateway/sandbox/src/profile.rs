//! A profile of one plugin on demand: where its calls spend their time, as the Firefox
//! profiler reads it.
//!
//! Samples are taken at epoch ticks, on the stack of the guest that meets the tick, so
//! that a plugin that is not profiled pays one relaxed load for each tick.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{AsContext, GuestProfiler};

use crate::error::ProfileError;
use crate::plugin::Inner;

/// Longest profile. Whoever needs more takes another.
const DURATION_MAX: Duration = Duration::from_secs(60);

/// How often is sampled while a profile is taken: every epoch tick, which come that often
/// meanwhile.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Time that all samples of a profile may take together: it bounds what profiling costs
/// other plugins, and how many frames a guest with deep stacks can make it keep. A sample
/// of an ordinary stack takes some microseconds.
const SAMPLING_TIME_MAX: Duration = Duration::from_millis(300);

/// Most samples: a minute of one thread, every tick.
const SAMPLES_MAX: usize = 60_000;

/// Profiles of different plugins at once: each may hold some hundred megabytes while it is
/// taken.
const PROFILES_MAX: usize = 4;

/// Most bytes of a profile as JSON.
const PROFILE_BYTES_MAX: usize = 64 << 20;

/// Whether a profile of a plugin is being taken, and its samples.
#[derive(Default)]
pub(crate) struct Profiling {
    /// Somebody takes a profile, or prepares to.
    is_taken: AtomicBool,
    is_on: AtomicBool,
    session: Mutex<Option<Session>>,
}

struct Session {
    profiler: GuestProfiler,
    samples_left: usize,
    time_left: Duration,
}

impl Profiling {
    /// Whether [`Self::sample`] would do anything.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Takes a sample of a guest that was just interrupted.
    pub(crate) fn sample(&self, store: impl AsContext) {
        // Another guest of the plugin is just being sampled: this one is another time.
        let Ok(mut session) = self.session.try_lock() else { return };
        let Some(session) = session.as_mut() else { return };
        if session.samples_left == 0 || session.time_left.is_zero() {
            return;
        }
        let start = Instant::now();
        session.profiler.sample(store, TICK);
        session.samples_left -= 1;
        session.time_left = session.time_left.saturating_sub(start.elapsed());
    }

    fn set(&self, session: Option<Session>) -> Option<Session> {
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_on.store(session.is_some(), Ordering::Relaxed);
        std::mem::replace(&mut *place, session)
    }
}

/// A profile being taken. Dropping it ends it.
struct Running<'a> {
    plugin: &'a Inner,
    _place: Place<'a>,
}

/// The plugin's only profile, and a place among those of all plugins.
struct Place<'a> {
    is_taken: &'a AtomicBool,
    /// Profiles being taken: the ticker looks at it.
    count: &'a AtomicUsize,
}

impl<'a> Place<'a> {
    fn take(is_taken: &'a AtomicBool, count: &'a AtomicUsize) -> Option<Self> {
        if is_taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        let one_more = |count: usize| (count < PROFILES_MAX).then_some(count + 1);
        if count.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_err() {
            is_taken.store(false, Ordering::Release);
            return None;
        }
        Some(Self { is_taken, count })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.is_taken.store(false, Ordering::Release);
    }
}

impl<'a> Running<'a> {
    fn start(plugin: &'a Inner) -> Result<Self, ProfileError> {
        let place = Place::take(&plugin.profiling.is_taken, &plugin.shared.profiles);
        let running = Self { plugin, _place: place.ok_or(ProfileError::Busy)? };
        let component = plugin.pre.component().clone();
        let profiler =
            GuestProfiler::new_component(&plugin.stack.engine, &plugin.options.name, TICK, component, [])
                .map_err(|error| ProfileError::Failed(format!("{error:#}")))?;
        let session = Session { profiler, samples_left: SAMPLES_MAX, time_left: SAMPLING_TIME_MAX };
        plugin.profiling.set(Some(session));
        Ok(running)
    }

    fn finish(self) -> Option<Session> {
        self.plugin.profiling.set(None)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.plugin.profiling.set(None);
    }
}

/// Samples the plugin's calls for that long. Cancel-safe.
pub(crate) async fn record(plugin: &Inner, duration: Duration) -> Result<Vec<u8>, ProfileError> {
    if duration > DURATION_MAX {
        return Err(ProfileError::TooLong { seconds_max: DURATION_MAX.as_secs() });
    }
    let running = Running::start(plugin)?;
    tokio::time::sleep(duration).await;
    let session = running.finish().ok_or_else(|| ProfileError::Failed("its samples are gone".to_owned()))?;
    let write = move || {
        let mut out = Bounded(Vec::new());
        match session.profiler.finish(&mut out) {
            Ok(()) => Ok(out.0),
            Err(error) if error.downcast_ref::<serde_json::Error>().is_some_and(serde_json::Error::is_io) => {
                Err(ProfileError::TooLarge)
            }
            Err(error) => Err(ProfileError::Failed(format!("{error:#}"))),
        }
    };
    tokio::task::spawn_blocking(write).await.map_err(|error| ProfileError::Failed(error.to_string()))?
}

/// A buffer of at most [`PROFILE_BYTES_MAX`].
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len().saturating_add(bytes.len()) > PROFILE_BYTES_MAX {
            return Err(io::Error::other("the profile is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
