//! Plugins in registries: `sluice plugin push oci://… COMPONENT` and `sluice plugin pull
//! oci://…`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::json;
use sluice_sandbox::ComponentFacts;

use super::COMPONENT_BYTES_MAX;
use crate::cli::outcome::{Failure, Outcome, clean, print, size};
use crate::oci::{
    self, CredentialSource, Description, OciError, OciSettings, Reference, SIGNATURE_ANNOTATION,
};

/// How references to registries begin.
const SCHEME: &str = "oci://";

/// What annotations of images begin with.
const ANNOTATION: &str = "org.opencontainers.image";

#[derive(Debug, Args)]
pub(in crate::cli) struct RegistryArguments {
    /// A registry, HOST or HOST:PORT, that is spoken to without TLS; loopback always is.
    #[arg(long, value_name = "HOST")]
    insecure_registry: Vec<String>,
    /// Credentials: a config.json as docker writes it. Looked for where docker keeps it if
    /// absent.
    #[arg(long, value_name = "FILE")]
    registry_credentials: Option<PathBuf>,
    /// Certificates, PEM, that are trusted beside the system's.
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PullArguments {
    /// Where it is: oci://HOST/REPOSITORY@sha256:… or :TAG.
    #[arg(value_name = "REFERENCE")]
    reference: String,
    /// Where the component goes.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print what was pulled as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    registry: RegistryArguments,
}

impl RegistryArguments {
    fn settings(&self) -> OciSettings {
        let credentials = self.registry_credentials.clone();
        OciSettings {
            insecure_hosts: self.insecure_registry.clone(),
            credentials: credentials.map_or_else(CredentialSource::docker, CredentialSource::File),
            ca: self.registry_ca.clone(),
            cache: None,
        }
    }
}

/// Whether a push goes to a registry rather than to a gateway.
pub(super) fn is_reference(target: &str) -> bool {
    target.starts_with(SCHEME)
}

/// Pushes a component, with what it says about itself in the manifest.
pub(super) async fn push(
    target: &str,
    component: Bytes,
    facts: &ComponentFacts,
    signature: Option<String>,
    registry: &RegistryArguments,
) -> Outcome {
    let reference = Reference::parse(target).map_err(failure)?;
    let description = Description {
        imports: facts.imports.clone(),
        exports: facts.exports.clone(),
        annotations: annotations(facts),
        signature,
        created: created(),
    };
    let bytes = size(component.len().try_into().unwrap_or(u64::MAX));
    let pushed = oci::push(&reference, component, &description, &registry.settings()).await;
    let pinned = reference.at(pushed.map_err(failure)?);
    print(&format!("pushed {bytes} to {reference}\n\nserve it: plugin = \"{pinned}\"\n"))
}

pub(super) async fn pull(arguments: &PullArguments) -> Outcome {
    let reference = Reference::parse(&arguments.reference).map_err(failure)?;
    let bytes_max = u64::try_from(COMPONENT_BYTES_MAX).unwrap_or(u64::MAX);
    let pulled = oci::pull(&reference, &arguments.registry.settings(), bytes_max).await.map_err(failure)?;
    write(&arguments.output, &pulled.component)?;
    let pinned = reference.at(pulled.manifest).to_string();
    if arguments.json {
        let answer = json!({
            "reference": pinned, "digest": pulled.digest.to_string(), "size_bytes": pulled.component.len(),
            "signature": pulled.signature, "annotations": pulled.annotations,
        });
        return print(&format!("{answer:#}\n"));
    }
    let mut out = format!("{}\n  component  {}\n", pinned, pulled.digest);
    for (name, value) in pulled.annotations.iter().filter(|(name, _)| *name != SIGNATURE_ANNOTATION) {
        let name = name.strip_prefix(ANNOTATION).unwrap_or(name).trim_start_matches('.');
        out.push_str(&format!("  {:9}  {}\n", clean(name), clean(value)));
    }
    let signature = pulled.signature.as_deref().unwrap_or("none");
    out.push_str(&format!(
        "  signature  {}\n\nwritten to {}\n",
        clean(signature),
        arguments.output.display()
    ));
    print(&out)
}

/// Whole or not at all: a component that is there before stays until then.
fn write(path: &Path, content: &[u8]) -> Outcome {
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let written = tempfile::Builder::new().prefix(".pulled-").tempfile_in(folder).and_then(|mut file| {
        file.write_all(content)?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(drop).map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))
}

fn failure(error: OciError) -> Failure {
    let text = clean(&error.to_string());
    match error {
        OciError::Unreachable { .. } => Failure::unavailable(text),
        OciError::Reference { .. } | OciError::Credentials(_) | OciError::Certificates(_) => {
            Failure::usage(text)
        }
        _ => Failure::refused(text),
    }
}

/// What the component says about itself, in the words of the image specification.
fn annotations(facts: &ComponentFacts) -> BTreeMap<String, String> {
    let metadata = &facts.metadata;
    let said = [
        ("title", &metadata.name),
        ("version", &metadata.version),
        ("description", &metadata.description),
        ("authors", &metadata.authors),
        ("licenses", &metadata.licenses),
        ("source", &metadata.source),
        ("url", &metadata.homepage),
        ("revision", &metadata.revision),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
    said.map(|(name, value)| (format!("{ANNOTATION}.{name}"), value)).collect()
}

/// Now; or what `SOURCE_DATE_EPOCH` says, so that the same component makes the same
/// manifest.
fn created() -> String {
    let fixed = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    let time = fixed.and_then(|seconds| DateTime::from_timestamp(seconds, 0)).unwrap_or_else(Utc::now);
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
