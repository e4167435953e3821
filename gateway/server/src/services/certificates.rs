//! Whom secure connections trust, to whichever server: the system's certificates and
//! the operator's.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The certificates of a file that the operator names.
///
/// # Errors
/// It cannot be read, or holds no certificate; with the path.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault =
        |what: &dyn std::fmt::Display| format!("cannot use the certificates of {}: {what}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| fault(&error))?;
    if found.is_empty() { Err(fault(&"there is none in it")) } else { Ok(found) }
}

/// The certificates that are trusted.
#[derive(Debug, Clone, Default)]
pub(super) struct Trusted(Vec<CertificateDer<'static>>);

impl Trusted {
    /// The system's, and those of `ca`.
    ///
    /// # Errors
    /// `ca` cannot be used. What the system has is taken as far as it can be read.
    pub(super) fn load(ca: Option<&Path>) -> Result<Self, String> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "certificate of the system cannot be used");
        }
        let mut all = system.certs;
        if let Some(path) = ca {
            let own = read(path)?;
            let mut store = RootCertStore::empty();
            for certificate in &own {
                let added = store.add(certificate.clone());
                added
                    .map_err(|error| format!("cannot use the certificates of {}: {error}", path.display()))?;
            }
            all.extend(own);
        }
        Ok(Self(all))
    }

    /// In PEM.
    pub(super) fn pem(&self) -> Vec<u8> {
        let mut text = String::new();
        for certificate in &self.0 {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let encoded = STANDARD.encode(certificate);
            for start in (0..encoded.len()).step_by(64) {
                text.push_str(&encoded[start..encoded.len().min(start + 64)]);
                text.push('\n');
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text.into_bytes()
    }

    /// TLS settings for HTTP/1.1. Without any certificate every connection fails, with a
    /// line in the log now.
    ///
    /// # Errors
    /// The library has no protocol version in common with itself.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.0.iter().cloned());
        if roots.is_empty() {
            tracing::info!("no certificate authority is known, so plugins cannot use https");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_pem_reads_back() {
        let certificates: Vec<_> = [&[0_u8; 47][..], &[1; 48], &[2; 49], &[3; 1000]]
            .into_iter()
            .map(|bytes| CertificateDer::from(bytes.to_vec()))
            .collect();
        let pem = Trusted(certificates.clone()).pem();
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        assert_eq!(read.expect("PEM"), certificates);
    }
}
