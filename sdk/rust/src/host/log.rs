//! Lines in the gateway's log: `log::info!("loaded {n} rules")`.
//!
//! They appear under the plugin's name. The gateway cuts long lines and limits how
//! many a plugin may write; it never logs a request's data by itself, and neither
//! should a plugin.

use crate::imp;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the usual names")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// Writes a line; the macros are shorter.
pub fn write(level: Level, message: &str) {
    imp::log(level, message);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Trace, &::std::format!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Debug, &::std::format!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Info, &::std::format!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Warn, &::std::format!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Error, &::std::format!($($arguments)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_critical {
    ($($arguments:tt)+) => {
        $crate::log::write($crate::log::Level::Critical, &::std::format!($($arguments)+))
    };
}

#[doc(inline)]
pub use crate::{
    __log_critical as critical, __log_debug as debug, __log_error as error, __log_info as info,
    __log_trace as trace, __log_warn as warn,
};
