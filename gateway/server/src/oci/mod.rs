//! Plugins in OCI registries: how a fleet shares them.
//!
//! A plugin is an artifact in the CNCF's layout for WebAssembly (see `manifest.rs`). The
//! config names it by the digest of its manifest; the manifest names the component by
//! its digest; both are checked here, whatever the registry or the cache says. A
//! registry is an untrusted place to keep bytes.

mod cache;
mod credentials;
mod digest;
mod error;
mod login;
mod manifest;
mod reference;
mod registry;

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use self::cache::Cache;
pub use self::credentials::CredentialSource;
pub use self::digest::Digest;
pub use self::error::OciError;
pub use self::manifest::{Description, SIGNATURE_ANNOTATION};
pub use self::reference::{Reference, Version};
use self::registry::Registry;
use crate::config::Config;

/// How registries are reached: `[oci]` of the config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OciSettings {
    /// Registries, `host:port`, that are spoken to without TLS; loopback always is.
    pub insecure_hosts: Vec<String>,
    /// Credentials.
    pub credentials: CredentialSource,
    /// Certificates, PEM, that are trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// Where pulled plugins are kept; nowhere if absent.
    pub cache: Option<PathBuf>,
}

impl OciSettings {
    /// As the config has them. Credentials that it does not name are looked for where
    /// docker keeps them; what is pulled is kept in the state directory, or beside the
    /// compiled code.
    pub fn new(config: &Config) -> Self {
        let credentials = config.oci.credentials.clone();
        let beside = |compiled: &PathBuf| compiled.with_file_name("pulled");
        let state = config.state.dir.as_ref().map(|directory| directory.join("oci"));
        Self {
            insecure_hosts: config.oci.insecure_hosts.clone(),
            credentials: credentials.map_or_else(CredentialSource::docker, CredentialSource::File),
            ca: config.egress.ca.clone(),
            cache: state.or_else(|| config.sandbox.cache_dir.as_ref().map(beside)),
        }
    }
}

/// A plugin that was pulled. All of it was checked against the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The component.
    pub component: Bytes,
    /// The digest of the manifest, which a config names.
    pub manifest: Digest,
    /// The digest of the component, which signatures are over.
    pub digest: Digest,
    /// A detached signature, `KEYNAME:BASE64`, if the manifest carries one.
    pub signature: Option<String>,
    /// Every annotation of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// Pulls a plugin of at most `bytes_max` bytes: from the cache if its digest is known and
/// it is there, else from the registry.
///
/// # Errors
/// See [`OciError`].
pub async fn pull(reference: &Reference, settings: &OciSettings, bytes_max: u64) -> Result<Pulled, OciError> {
    let cache = settings.cache.clone().map(Cache::new);
    if let (Some(cache), Version::Digest(digest)) = (&cache, reference.version()) {
        let (cache, digest) = (cache.clone(), *digest);
        let found = tokio::task::spawn_blocking(move || cache.find(digest, bytes_max)).await;
        if let Ok(Some((manifest, component))) = found {
            return pulled(&manifest, component);
        }
    }
    let registry = Registry::new(reference, settings)?;
    let (manifest, _) = registry.manifest().await?;
    let plugin = manifest::read(&manifest)?;
    let component = registry.blob(plugin.component, plugin.size, bytes_max).await?;
    let pulled = pulled(&manifest, component)?;
    if let Some(cache) = cache {
        let component = pulled.component.clone();
        let kept = tokio::task::spawn_blocking(move || cache.keep(&manifest, &component)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "plugin will be pulled again at the next start");
        }
    }
    Ok(pulled)
}

/// Pushes a component under a tag, and gives the digest that a config names.
///
/// # Errors
/// See [`OciError`].
pub async fn push(
    reference: &Reference,
    component: Bytes,
    description: &Description,
    settings: &OciSettings,
) -> Result<Digest, OciError> {
    let registry = Registry::new(reference, settings)?;
    let made =
        manifest::make(&component, description).map_err(|error| OciError::NotPlugin(error.to_string()))?;
    let digest = Digest::of(&made.manifest);
    registry.log_in_to_push().await?;
    registry.push_blob(component).await?;
    registry.push_blob(Bytes::from(made.config)).await?;
    registry.push_manifest(Bytes::from(made.manifest)).await?;
    // Some registries rewrite manifests. Then the digest would lead nowhere.
    let pinned = reference.at(digest);
    Registry::new(&pinned, settings)?.manifest().await?;
    Ok(digest)
}

fn pulled(content: &[u8], component: Bytes) -> Result<Pulled, OciError> {
    let plugin = manifest::read(content)?;
    let signature = plugin.annotations.get(SIGNATURE_ANNOTATION).cloned();
    Ok(Pulled {
        digest: plugin.component,
        manifest: Digest::of(content),
        component,
        signature,
        annotations: plugin.annotations,
    })
}
