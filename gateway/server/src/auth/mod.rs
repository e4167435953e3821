//! Who may do what: tokens and their scopes, the table of routes from which a listener
//! is made, what protects the admin listener from browsers, and TLS.
//!
//! A route cannot exist without an [`Access`]: [`Route`] is the only way into
//! [`router`], and the suite walks the same tables.

mod access;
mod browser;
mod door;
mod identity;
mod peers;
pub mod tls;
pub mod token;

use std::net::SocketAddr;

pub use access::{Access, Route, router};
pub use door::Door;
pub(crate) use door::no_browser;
pub use identity::{Identity, forbidden};

/// The connection that a request came over: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Who connected.
    pub peer: SocketAddr,
    /// Which of our addresses they reached.
    pub local: SocketAddr,
}
