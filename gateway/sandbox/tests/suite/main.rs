//! What the sandbox promises, shown on components that break every rule.
//!
//! Guests are core modules in text, made components on the spot: see `guest`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bounds;
mod cache;
mod cancel;
mod capabilities;
mod faults;
mod guest;
mod isolation;
mod loading;
mod parts;
mod places;
mod programs;
mod services;
mod stores;
mod strings;
mod support;
mod usage;
mod verify;
