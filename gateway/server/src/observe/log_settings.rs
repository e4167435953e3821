//! Which log lines are written, changed while the gateway runs: Triton's logging extension,
//! for the one log of the process. A change lasts until the process ends; what the
//! configuration says is what it starts with.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use chrono::{SecondsFormat, Utc};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::{EnvFilter, reload};

use super::ObserveError;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Errors.
    pub error: bool,
    /// Warnings.
    pub warning: bool,
    /// Everything else that the configured filter lets through.
    pub info: bool,
    /// Beside that, of the gateway itself: 0 nothing, 1 its debug lines, more also its finest.
    pub verbose_level: u32,
    /// Whether times are to the second, as ISO 8601 has them, and not to the microsecond.
    pub is_iso8601: bool,
}

const START: LogSettings =
    LogSettings { error: true, warning: true, info: true, verbose_level: 0, is_iso8601: false };

static CURRENT: Mutex<LogSettings> = Mutex::new(START);
static IS_ISO8601: AtomicBool = AtomicBool::new(false);

/// Puts another filter in place. It holds the type of the subscriber, which nobody else needs
/// to know.
type Replace = Box<dyn Fn(LogFilter) -> Result<(), String> + Send + Sync>;

/// The running log: its configured filter, and how to replace that. Absent where somebody else
/// set up the log, as in tests.
static CONTROL: OnceLock<(String, Replace)> = OnceLock::new();

/// What is written now.
pub fn log_settings() -> LogSettings {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what is written from the next line on: `change` gets what is in force.
///
/// # Errors
/// The filter could not be replaced; nothing is changed then.
pub fn change_log_settings(change: impl FnOnce(&mut LogSettings)) -> Result<LogSettings, String> {
    // Held to the end: two changes at once must not leave one's filter with the other's words.
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = *current;
    change(&mut next);
    if let Some((configured, replace)) = CONTROL.get() {
        replace(LogFilter::new(configured, &next).map_err(|error| error.to_string())?)?;
    }
    IS_ISO8601.store(next.is_iso8601, Ordering::Relaxed);
    *current = next;
    Ok(next)
}

/// A layer, and the handle that changes it.
type Reloadable<S> = (reload::Layer<LogFilter, S>, reload::Handle<LogFilter, S>);

/// The filter of the log layer, and what [`install`] takes once the layer is in use.
pub(super) fn filter<S>(configured: &str) -> Result<Reloadable<S>, ObserveError> {
    Ok(reload::Layer::new(LogFilter::new(configured, &START)?))
}

/// From now on changes reach the log.
pub(super) fn install<S: 'static>(configured: &str, handle: reload::Handle<LogFilter, S>) {
    let replace = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    // There is one log; a second one would not have got this far.
    let _ = CONTROL.set((configured.to_owned(), Box::new(replace)));
}

/// The configured filter, less what is switched off, more what is wanted beside it.
pub(super) struct LogFilter {
    inner: EnvFilter,
    settings: LogSettings,
}

impl LogFilter {
    fn new(configured: &str, settings: &LogSettings) -> Result<Self, ObserveError> {
        let beside = match settings.verbose_level {
            0 => "",
            1 => ",sluice=debug",
            _ => ",sluice=trace",
        };
        let inner = EnvFilter::builder()
            .parse(format!("{configured}{beside}"))
            .map_err(|error| ObserveError::Filter(error.to_string()))?;
        Ok(Self { inner, settings: *settings })
    }

    fn is_off(&self, metadata: &Metadata<'_>) -> bool {
        match *metadata.level() {
            Level::ERROR => !self.settings.error,
            Level::WARN => !self.settings.warning,
            Level::INFO => !self.settings.info,
            // Asked for on its own.
            _ => !self.settings.info && self.settings.verbose_level == 0,
        }
    }
}

impl<S: Subscriber> Filter<S> for LogFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        !self.is_off(metadata) && Filter::<S>::enabled(&self.inner, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_off(metadata) {
            return Interest::never();
        }
        Filter::<S>::callsite_enabled(&self.inner, metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        Filter::<S>::event_enabled(&self.inner, event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.inner)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_new_span(&self.inner, attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::<S>::on_record(&self.inner, id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_enter(&self.inner, id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::<S>::on_exit(&self.inner, id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        Filter::<S>::on_close(&self.inner, id, context);
    }
}

/// The time in front of each line.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogTime;

impl FormatTime for LogTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let is_short = IS_ISO8601.load(Ordering::Relaxed);
        let form = if is_short { SecondsFormat::Secs } else { SecondsFormat::Micros };
        writer.write_str(&Utc::now().to_rfc3339_opts(form, true))
    }
}
