//! Whom a registry takes us for: anonymous, or what docker's `config.json` says.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::OciError;

/// Bytes of the file of credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The key that docker uses for its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// Where credentials come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CredentialSource {
    /// Nowhere: everything is anonymous.
    #[default]
    None,
    /// A file that must be there.
    File(PathBuf),
    /// A file that is used if it is there.
    Default(PathBuf),
}

impl CredentialSource {
    /// Docker's own place: `$DOCKER_CONFIG/config.json`, or `.docker/config.json` in the
    /// home directory.
    pub fn docker() -> Self {
        let place = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = place("DOCKER_CONFIG").or_else(|| Some(place("HOME")?.join(".docker")));
        directory.map_or(Self::None, |directory| Self::Default(directory.join("config.json")))
    }

    /// The credentials for a registry. The file is read anew each time, for tokens in it
    /// are renewed from outside.
    ///
    /// # Errors
    /// [`OciError::Credentials`].
    pub(super) fn of(&self, host: &str) -> Result<Credentials, OciError> {
        let (path, must_be_there) = match self {
            Self::None => return Ok(Credentials::Anonymous),
            Self::File(path) => (path, true),
            Self::Default(path) => (path, false),
        };
        match read(path) {
            Ok(Some(content)) => find(&content, host, path),
            Ok(None) if must_be_there => {
                Err(OciError::Credentials(format!("{} does not exist", path.display())))
            }
            Ok(None) => Ok(Credentials::Anonymous),
            Err(error) => Err(OciError::Credentials(format!("{}: {error}", path.display()))),
        }
    }
}

/// What a registry is told.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Anonymous,
    Basic { user: String, password: String },
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Token(_) => "Token(…)",
        })
    }
}

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than a megabyte"));
    }
    Ok(Some(content))
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

/// Fields that are empty are as good as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

fn find(content: &[u8], host: &str, path: &Path) -> Result<Credentials, OciError> {
    let fault = |why: &str| OciError::Credentials(format!("{}: {why}", path.display()));
    // What serde says may quote the file.
    let config: DockerConfig =
        serde_json::from_slice(content).map_err(|_| fault("it is not docker's config.json"))?;
    let is_hub = host == "docker.io" || host == "index.docker.io";
    let same = |key: &str| {
        let bare = key.trim_start_matches("https://").trim_start_matches("http://");
        bare.split('/').next() == Some(host) || (is_hub && key == DOCKER_HUB)
    };
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| same(key)) else {
        if config.cred_helpers.contains_key(host) {
            return Err(fault("the credentials are with a helper program, and none is run: use `auths`"));
        }
        return Ok(Credentials::Anonymous);
    };
    if !auth.registrytoken.is_empty() {
        return Ok(Credentials::Token(auth.registrytoken.clone()));
    }
    if !auth.identitytoken.is_empty() {
        return Err(fault("identity tokens are not supported: log in with a password or an access token"));
    }
    if !auth.username.is_empty() {
        return Ok(Credentials::Basic { user: auth.username.clone(), password: auth.password.clone() });
    }
    if auth.auth.is_empty() {
        return match config.creds_store {
            Some(_) => Err(fault("the credentials are with a helper program, and none is run: use `auths`")),
            None => Ok(Credentials::Anonymous),
        };
    }
    let pair = STANDARD.decode(&auth.auth).ok().and_then(|pair| String::from_utf8(pair).ok());
    let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let (user, password) = pair.ok_or_else(|| fault("an `auth` is not the base64 of USER:PASSWORD"))?;
    // Docker ends some with a NUL.
    Ok(Credentials::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(config: &str, host: &str) -> Result<Credentials, OciError> {
        find(config.as_bytes(), host, Path::new("config.json"))
    }

    #[test]
    fn a_registry_gets_its_own_credentials_only() {
        let config = r#"{"auths": {
            "ghcr.io": {"auth": "dXNlcjpwYTpzcw=="},
            "https://index.docker.io/v1/": {"username": "hub", "password": "p"},
            "localhost:5000": {"registrytoken": "t"}
        }}"#;
        let basic = |user: &str, password: &str| Credentials::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        assert_eq!(found(config, "ghcr.io"), Ok(basic("user", "pa:ss")));
        assert_eq!(found(config, "docker.io"), Ok(basic("hub", "p")));
        assert_eq!(found(config, "localhost:5000"), Ok(Credentials::Token("t".to_owned())));
        for host in ["localhost", "localhost:5001", "evil-ghcr.io", "ghcr.io.evil.org"] {
            assert_eq!(found(config, host), Ok(Credentials::Anonymous), "{host}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_secret() {
        for config in [
            "{",
            r#"{"auths": {"h.io": {"auth": "c2VjcmV0"}}}"#,
            r#"{"auths": {"h.io": {"identitytoken": "secret"}}}"#,
            r#"{"credHelpers": {"h.io": "x"}}"#,
            r#"{"auths": {"h.io": {}}, "credsStore": "x"}"#,
        ] {
            let error = found(config, "h.io").expect_err(config).to_string();
            assert!(!error.contains("secret") && !error.contains("c2VjcmV0"), "{error}");
        }
        assert!(
            !format!("{:?}", found(r#"{"auths": {"h.io": {"registrytoken": "secret"}}}"#, "h.io"))
                .contains("secret")
        );
    }
}
