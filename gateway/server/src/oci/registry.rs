//! Talking to registries: what is read is bounded, and checked against its digest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{RequestBuilder, StatusCode};

use super::credentials::Credentials;
use super::login::Door;
use super::manifest::{MANIFEST_BYTES_MAX, MANIFEST_TYPE};
use super::{Digest, OciError, OciSettings, Reference, Version};
use crate::services::certificates;

/// Time to connect to a registry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without a byte before a transfer is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for one whole exchange: a large component over a slow line.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(300);

/// Redirects of one exchange. Registries use one; a chain is a loop.
const REDIRECTS_MAX: usize = 5;

/// One registry, as one repository of it is asked.
pub(super) struct Registry<'a> {
    reference: &'a Reference,
    /// Pushes.
    client: Client,
    /// Logs in and reads. The client above would read tokens and manifests of any size.
    http: reqwest::Client,
    auth: RegistryAuth,
    scheme: &'static str,
}

impl<'a> Registry<'a> {
    pub(super) fn new(reference: &'a Reference, settings: &OciSettings) -> Result<Self, OciError> {
        // reqwest takes the process's provider, and panics without one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let host = reference.host();
        let is_plain = reference.is_loopback() || settings.insecure_hosts.iter().any(|known| known == host);
        let auth = match settings.credentials.of(host)? {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic { user, password } => RegistryAuth::Basic(user, password),
            Credentials::Token(token) => RegistryAuth::Bearer(token),
        };
        let ca = settings.ca.as_deref().map(certificates::read).transpose();
        let ca = ca.map_err(OciError::Certificates)?.unwrap_or_default();
        let config = ClientConfig {
            protocol: if is_plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            platform_resolver: None,
            extra_root_certificates: ca
                .iter()
                .map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.to_vec() })
                .collect(),
            ..ClientConfig::default()
        };
        let unusable = |why: String| OciError::Unreachable { host: host.to_owned(), why };
        let client = Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
        let ca = ca.iter().map(|der| reqwest::Certificate::from_der(der)).collect::<Result<Vec<_>, _>>();
        let ca = ca.map_err(|error| OciError::Certificates(error.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_certs_merge(ca)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .timeout(EXCHANGE_TIMEOUT)
            .redirect(no_downgrade())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { reference, client, http, auth, scheme: if is_plain { "http" } else { "https" } })
    }

    /// The manifest, and its digest: the one that was asked for, or the tag's.
    pub(super) async fn manifest(&self) -> Result<(Bytes, Digest), OciError> {
        let version = match self.reference.version() {
            Version::Digest(digest) => digest.to_string(),
            Version::Tag(tag) => tag.clone(),
        };
        let request = self.get("manifests", &version).header(ACCEPT, MANIFEST_TYPE);
        let what = || format!("{}{}", self.reference.repository(), self.reference.version());
        let content = self.read(request, "manifest", MANIFEST_BYTES_MAX, what).await?;
        let actual = Digest::of(&content);
        match self.reference.version() {
            Version::Digest(expected) => check("manifest", *expected, actual)?,
            Version::Tag(_) => {}
        }
        Ok((content, actual))
    }

    /// A blob, whose size was declared.
    pub(super) async fn blob(&self, digest: Digest, size: u64, bytes_max: u64) -> Result<Bytes, OciError> {
        if size > bytes_max {
            return Err(OciError::TooLarge { what: "component", bytes_max });
        }
        let request = self.get("blobs", &digest.to_string());
        let what = || format!("{}: component {digest}", self.reference.repository());
        let content = self.read(request, "component", size, what).await?;
        check("component", digest, Digest::of(&content))?;
        Ok(content)
    }

    /// Logs in for pushing, if the registry wants that. The client that pushes is given the
    /// token, so that it asks nobody for one.
    pub(super) async fn log_in_to_push(&self) -> Result<(), OciError> {
        let token = self.token(RegistryOperation::Push).await?;
        let auth = token.map_or_else(|| self.auth.clone(), RegistryAuth::Bearer);
        let authenticated = self.client.auth(&self.image(), &auth, RegistryOperation::Push).await;
        authenticated.map(drop).map_err(|error| self.fault(error))
    }

    async fn token(&self, operation: RegistryOperation) -> Result<Option<String>, OciError> {
        let image = self.image();
        let door = Door {
            http: &self.http,
            scheme: self.scheme,
            host: self.reference.host(),
            address: image.resolve_registry(),
            repository: image.repository(),
        };
        door.token(&self.auth, operation).await
    }

    /// Stores a blob, unless it is there.
    pub(super) async fn push_blob(&self, content: Bytes) -> Result<(), OciError> {
        let (image, digest) = (self.image(), Digest::of(&content).to_string());
        // Some registries refuse the question; then it is sent.
        if self.client.blob_exists(&image, &digest).await.unwrap_or(false) {
            return Ok(());
        }
        self.client.push_blob(&image, content, &digest).await.map(drop).map_err(|error| self.fault(error))
    }

    /// Stores a manifest under the reference's tag or digest.
    pub(super) async fn push_manifest(&self, content: Bytes) -> Result<(), OciError> {
        let image = self.image();
        let pushed = self.client.push_manifest_raw(&image, content, HeaderValue::from_static(MANIFEST_TYPE));
        pushed.await.map(drop).map_err(|error| self.fault(error))
    }

    fn image(&self) -> oci_client::Reference {
        let (host, repository) = (self.reference.host().to_owned(), self.reference.repository().to_owned());
        match self.reference.version() {
            Version::Digest(digest) => {
                oci_client::Reference::with_digest(host, repository, digest.to_string())
            }
            Version::Tag(tag) => oci_client::Reference::with_tag(host, repository, tag.clone()),
        }
    }

    fn get(&self, kind: &str, version: &str) -> RequestBuilder {
        let image = self.image();
        let (host, repository) = (image.resolve_registry(), image.repository());
        self.http.get(format!("{}://{host}/v2/{repository}/{kind}/{version}", self.scheme))
    }

    /// Reads an answer that has at most `bytes_max` bytes.
    async fn read(
        &self,
        request: RequestBuilder,
        what: &'static str,
        bytes_max: u64,
        asked_for: impl Fn() -> String,
    ) -> Result<Bytes, OciError> {
        let token = self.token(RegistryOperation::Pull).await?;
        let request = match (&self.auth, token) {
            (_, Some(token)) => request.bearer_auth(token),
            (RegistryAuth::Basic(user, password), None) => request.basic_auth(user, Some(password)),
            _ => request,
        };
        let mut answer = request.send().await.map_err(|error| self.lost(&error))?;
        let host = || self.reference.host().to_owned();
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(OciError::NotFound { host: host(), what: asked_for() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            status => {
                return Err(OciError::Protocol {
                    host: host(),
                    why: format!("status {status} for the {what}"),
                });
            }
        }
        let too_large = || OciError::TooLarge { what, bytes_max };
        if answer.content_length().is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let mut content = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.lost(&error))? {
            if (content.len() as u64).saturating_add(chunk.len() as u64) > bytes_max {
                return Err(too_large());
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content.freeze())
    }

    fn lost(&self, error: &reqwest::Error) -> OciError {
        let why = if error.is_timeout() { "it took too long".to_owned() } else { innermost(error) };
        OciError::Unreachable { host: self.reference.host().to_owned(), why }
    }

    fn denied(&self) -> OciError {
        let (host, repository) = (self.reference.host(), self.reference.repository());
        OciError::Denied { host: host.to_owned(), repository: repository.to_owned() }
    }

    fn fault(&self, error: OciDistributionError) -> OciError {
        let host = self.reference.host().to_owned();
        match error {
            OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::UnauthorizedError { .. } => self.denied(),
            OciDistributionError::ServerError { code: 401 | 403, .. } => self.denied(),
            OciDistributionError::RequestError(error) if error.status().is_some() => {
                OciError::Protocol { host, why: error.without_url().to_string() }
            }
            OciDistributionError::RequestError(error) => self.lost(&error),
            OciDistributionError::ServerError { code, message, .. } => {
                let message: String =
                    message.chars().filter(|letter| !letter.is_control()).take(200).collect();
                OciError::Protocol { host, why: format!("status {code}: {message}") }
            }
            other => {
                let why: String =
                    other.to_string().chars().filter(|letter| !letter.is_control()).take(300).collect();
                OciError::Protocol { host, why }
            }
        }
    }
}

/// Registries send readers of blobs on to where those lie; never from TLS to where there is
/// none.
fn no_downgrade() -> Policy {
    Policy::custom(|attempt| {
        let was_secure = attempt.previous().iter().any(|url| url.scheme() == "https");
        match attempt.url().scheme() {
            "https" if attempt.previous().len() <= REDIRECTS_MAX => attempt.follow(),
            "http" if !was_secure && attempt.previous().len() <= REDIRECTS_MAX => attempt.follow(),
            _ => attempt.error("a redirect that is not followed"),
        }
    })
}

fn check(what: &'static str, expected: Digest, actual: Digest) -> Result<(), OciError> {
    if expected == actual {
        return Ok(());
    }
    Err(OciError::Digest { what, expected: expected.to_string(), actual: actual.to_string() })
}

/// The cause at the bottom: `connection refused` rather than a URL.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}
