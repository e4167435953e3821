//! Whom a secure connection trusts: the system's certificates and the operator's.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The TLS settings of outgoing connections. Without any certificate authority every
/// connection fails, with a line in the log now.
///
/// # Errors
/// `ca` cannot be read, or holds no certificate.
pub(super) fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "certificate of the system cannot be used");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let fault = |what: &dyn std::fmt::Display| {
            format!("cannot use the certificates of {}: {what}", path.display())
        };
        let mut count = 0_usize;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(&error))? {
            let certificate = certificate.map_err(|error| fault(&error))?;
            roots.add(certificate).map_err(|error| fault(&error))?;
            count += 1;
        }
        if count == 0 {
            return Err(fault(&"there is none in it"));
        }
    }
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
