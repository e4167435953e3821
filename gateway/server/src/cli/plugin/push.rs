//! `sluice plugin push`: a component becomes a version, with progress while it is sent,
//! verified and tried.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::stream;
use http::{Method, StatusCode};
use serde_json::Value;
use sluice_sandbox::ComponentFacts;

use super::embed::embed;
use super::oci::{self, RegistryArguments};
use super::sign::{private_key, signature};
use super::{COMPONENT_BYTES_MAX, digest, not_loaded, show};
use crate::cli::outcome::{Failure, Outcome, size};
use crate::cli::remote::progress::Progress;
use crate::cli::remote::{Answer, Client, ServerArguments, name};

/// Bytes that are handed to the connection at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How often the line of progress is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(300);

/// Characters of the digest that stand for a version which has no name.
const DIGEST_CHARS: usize = 12;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin; or a place in a registry, oci://HOST/REPOSITORY:TAG.
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// What the version is called; the component's own version if it has one, else the
    /// beginning of its digest.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Sample cases to put into the component first; the gateway runs them.
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// Sign what is sent with this private key.
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// A signature that was made before, of exactly this component.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sign", "samples"])]
    signature: Option<PathBuf>,
    /// The key's name in the gateway's configuration; any of the owner's if absent.
    #[arg(long, value_name = "NAME")]
    key_name: Option<String>,
    /// Whose the plugin is, if the gateway does not know it yet.
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,
    /// Serve it as soon as it has passed.
    #[arg(long)]
    activate: bool,
    #[command(flatten)]
    server: ServerArguments,
    #[command(flatten)]
    registry: RegistryArguments,
}

/// What is sent.
struct Upload {
    component: Bytes,
    facts: ComponentFacts,
    version: String,
    signature: Option<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    if oci::is_reference(&arguments.plugin) {
        return to_registry(arguments).await;
    }
    let plugin = name("plugin", &arguments.plugin)?;
    let upload = prepare(arguments)?;
    let client = Client::new(&arguments.server)?;
    let version = name("version", &upload.version)?;
    let path = format!("/admin/v1/plugins/{plugin}/versions/{version}");
    let answer = send(&client, &path, arguments, &upload).await;
    let answer = answer.map_err(|failure| failure.while_(&format!("{plugin} {version}")))?;
    let is_new = answer.status == StatusCode::CREATED;
    super::super::remote::show(&arguments.server, &answer.json()?, |record| {
        let note = if is_new { "" } else { " (it was there already)" };
        let state = record["state"].as_str().unwrap_or("uploaded");
        let mut out = format!("{plugin} {version} is {state}{note}\n\n{}", show::record(record));
        if !arguments.activate && state != "active" {
            out.push_str(&format!("\nserve it: sluice plugin activate {plugin} {version}\n"));
        }
        out
    })
}

/// The other kind of target: registries know neither owners nor what is served.
async fn to_registry(arguments: &Arguments) -> Outcome {
    if arguments.owner.is_some() || arguments.activate || arguments.version.is_some() {
        return Err(Failure::usage(
            "--version, --owner and --activate are for a gateway, not for a registry",
        ));
    }
    let Upload { component, facts, signature, .. } = prepare(arguments)?;
    oci::push(&arguments.plugin, component, &facts, signature, &arguments.registry).await
}

/// Everything that can fail here fails before anything is sent.
fn prepare(arguments: &Arguments) -> Outcome<Upload> {
    let mut component = super::component(&arguments.component)?;
    let facts = sluice_sandbox::verify::describe(&component, COMPONENT_BYTES_MAX)
        .map_err(|error| not_loaded(&arguments.component, &error))?;
    if let Some(samples) = &arguments.samples {
        (component, _) = embed(&component, &arguments.component, samples)?;
    }
    let signature = match (&arguments.sign, &arguments.signature) {
        (Some(key), _) => Some(private_key(key)?.sign(&component)),
        (None, Some(file)) => Some(signature(file)?),
        (None, None) => None,
    };
    let key_name = arguments.key_name.as_deref().map(|given| name("key", given)).transpose()?;
    let signature = signature.map(|signature| match key_name {
        Some(name) => format!("{name}:{}", signature.to_base64()),
        None => signature.to_base64(),
    });
    if signature.is_none() && key_name.is_some() {
        return Err(Failure::usage("--key-name goes with --sign or --signature"));
    }
    // A version that the component names and that is no name is not used; it is free text.
    let own = facts.metadata.version.clone().filter(|version| sluice_tensor::check_name(version).is_ok());
    let version = arguments.version.clone().or(own);
    let version = version.unwrap_or_else(|| digest(&component)[..DIGEST_CHARS].to_owned());
    Ok(Upload { component: component.into(), facts, version, signature })
}

async fn send(client: &Client, path: &str, arguments: &Arguments, upload: &Upload) -> Outcome<Answer> {
    let mut request = client.request(Method::PUT, path).header("content-type", "application/wasm");
    request = request.header("content-length", upload.component.len());
    if let Some(owner) = &arguments.owner {
        request = request.query(&[("owner", name("owner", owner)?)]);
    }
    if arguments.activate {
        request = request.query(&[("activate", "true")]);
    }
    if let Some(signature) = &upload.signature {
        request = request.header("x-sluice-signature", signature);
    }
    let sent = Arc::new(AtomicUsize::new(0));
    let chunks = chunks(upload.component.clone(), Arc::clone(&sent));
    let request = request.body(reqwest::Body::wrap_stream(stream::iter(chunks)));
    let mut progress = Progress::new();
    let mut answer = Box::pin(client.send(request));
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = ticks.tick(), if progress.is_shown() => {
                let line = step(client, path, sent.load(Ordering::Relaxed), upload.component.len()).await;
                progress.say(&line);
            }
        }
    }
}

/// The component in pieces; each is counted when the connection takes it.
fn chunks(
    component: Bytes,
    sent: Arc<AtomicUsize>,
) -> impl Iterator<Item = Result<Bytes, std::convert::Infallible>> + Send {
    let count = component.len().div_ceil(CHUNK_BYTES);
    (0..count).map(move |number| {
        let start = number * CHUNK_BYTES;
        let chunk = component.slice(start..component.len().min(start + CHUNK_BYTES));
        sent.fetch_add(chunk.len(), Ordering::Relaxed);
        Ok(chunk)
    })
}

/// Where the upload is: on its way, or in which state on the other side.
async fn step(client: &Client, path: &str, sent: usize, all: usize) -> String {
    if sent < all {
        let bytes = |count: usize| size(count.try_into().unwrap_or(u64::MAX));
        return format!("sending {} of {}", bytes(sent), bytes(all));
    }
    // Only for the eye: whoever may not look sees less.
    let record = client.get(path).await.unwrap_or(Value::Null);
    match record["state"].as_str() {
        Some("uploaded") => "verifying and compiling".to_owned(),
        Some("verified" | "compiled") => "loading".to_owned(),
        Some("canary") => "running its sample cases".to_owned(),
        _ => "waiting for the gateway".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_are_the_component_and_are_counted() {
        let component: Bytes = (0..200_000u32).map(|byte| byte.to_le_bytes()[0]).collect::<Vec<u8>>().into();
        let sent = Arc::new(AtomicUsize::new(0));
        let mut pieces = chunks(component.clone(), Arc::clone(&sent));
        let first = pieces.next().expect("a piece").unwrap_or_default();
        assert_eq!((first.len(), sent.load(Ordering::Relaxed)), (CHUNK_BYTES, CHUNK_BYTES));
        let rest: Vec<u8> = pieces.flat_map(|piece| piece.unwrap_or_default()).collect();
        assert_eq!([&first[..], &rest].concat(), component);
        assert_eq!(sent.load(Ordering::Relaxed), component.len());
        assert_eq!(chunks(Bytes::new(), sent).count(), 0);
    }
}
