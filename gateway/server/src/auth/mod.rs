//! Who may do what: tokens and their scopes, the table of routes from which a listener
//! is made, what protects the admin listener from browsers, and TLS.
//!
//! A route cannot exist without an [`Access`]: [`Route`] is the only way into
//! [`router`], and the suite walks the same tables.

mod access;
mod browser;
mod door;
mod identity;
mod knocks;
mod local;
mod peers;
pub mod tls;
pub mod token;

use std::net::SocketAddr;

use crate::admission::Share;

pub use access::{Access, Route, router};
pub use door::Door;
pub(crate) use door::no_browser;
pub use identity::{Identity, forbidden};
pub use knocks::Unwritten;
pub use local::check_local;

/// The connection that a request came over: an extension of every request.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who connected.
    pub peer: SocketAddr,
    /// Which of our addresses they reached.
    pub local: SocketAddr,
    /// The bodies that are arriving over it.
    pub share: Share,
}

impl Connection {
    /// Whether it comes from this machine, and never left it.
    pub fn is_loopback(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback() && self.local.ip().to_canonical().is_loopback()
    }
}
