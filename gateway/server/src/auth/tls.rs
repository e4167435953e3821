//! TLS of the listeners: certificates from files, read again when these change.
//!
//! What is read is checked whole (a chain, a key that fits it, authorities that parse)
//! before it replaces what is served; a broken file is part of a refused reload, and the
//! old certificates stay. Connections that are open keep what they began with.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;

use crate::config;

/// Bytes of a file of certificates. A chain has some kilobytes, the authorities of a
/// whole web browser have 250; a megabyte is a mistake and is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The protocols that are offered, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why certificates cannot be served. The texts are for operators and name files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl TlsError {
    fn content(path: &Path, reason: impl fmt::Display) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// What a listener presents, and whom it lets in.
pub struct Keeper {
    current: ArcSwap<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
}

impl Keeper {
    fn new(files: &config::Tls) -> Result<Arc<Self>, TlsError> {
        let contents = Contents::read(files)?;
        let loaded = Loaded { config: contents.server_config(files)?, digest: contents.digest() };
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(loaded) }))
    }

    /// Begins TLS with what the files hold now.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.load().config))
    }

    /// What is to be served instead, if the files changed.
    fn prepare(self: &Arc<Self>, files: &config::Tls) -> Result<Option<Change>, TlsError> {
        let contents = Contents::read(files)?;
        let digest = contents.digest();
        if self.current.load().digest == digest {
            return Ok(None);
        }
        let loaded = Loaded { config: contents.server_config(files)?, digest };
        Ok(Some(Change { keeper: Arc::clone(self), loaded: Arc::new(loaded) }))
    }
}

/// Certificates that were read and found good.
struct Change {
    keeper: Arc<Keeper>,
    loaded: Arc<Loaded>,
}

/// The TLS of all listeners.
#[derive(Default)]
pub struct Certificates {
    /// Of predictions; none is plain HTTP.
    pub http: Option<Arc<Keeper>>,
    /// Of the admin listener.
    pub admin: Option<Arc<Keeper>>,
}

/// Changed certificates of a reload, not served yet.
#[must_use]
pub struct Changes(Vec<Change>);

impl Certificates {
    /// Reads what the configuration names. Blocks on the disk.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(server: &config::Server) -> Result<Self, TlsError> {
        let load = |files: &Option<config::Tls>| files.as_ref().map(Keeper::new).transpose();
        Ok(Self { http: load(&server.tls)?, admin: load(&server.admin_tls)? })
    }

    /// Reads the files again. Blocks on the disk.
    ///
    /// # Errors
    /// See [`TlsError`]; nothing has changed then.
    pub fn prepare(&self, server: &config::Server) -> Result<Changes, TlsError> {
        let mut changes = Vec::new();
        for (keeper, files) in [(&self.http, &server.tls), (&self.admin, &server.admin_tls)] {
            if let (Some(keeper), Some(files)) = (keeper, files) {
                changes.extend(keeper.prepare(files)?);
            }
        }
        Ok(Changes(changes))
    }
}

impl Changes {
    /// Whether the files hold what is served already.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Serves them. Cannot fail.
    pub fn commit(self) {
        for change in self.0 {
            change.keeper.current.store(change.loaded);
        }
    }
}

/// The files of a listener, as they are at one moment.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    fn read(files: &config::Tls) -> Result<Self, TlsError> {
        let client_ca = files.client_ca.as_deref().map(read).transpose()?;
        Ok(Self { certificate: read(&files.certificate)?, key: read(&files.key)?, client_ca })
    }

    /// Of all files; the length of each stands before it, so that nothing can move from
    /// one into the next.
    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten()
        {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn server_config(&self, files: &config::Tls) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| TlsError::content(&files.key, format!("no private key in PEM: {error}")))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::content(&files.certificate, error))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, pem)? {
                    roots.add(certificate).map_err(|error| TlsError::content(path, error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| TlsError::content(path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            TlsError::content(&files.certificate, format!("it does not go with the key: {error}"))
        })?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let cannot = |source| TlsError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One more than allowed: a file may grow after its length was read.
    File::open(path).map_err(cannot)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsError::content(path, format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The certificates of a PEM file; at least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| TlsError::content(path, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(TlsError::content(path, "there is no certificate in PEM"));
    }
    Ok(found)
}
