//! The calls that are no predictions: what the server and its models are, and how they are
//! managed. Each reads its message, asks who also answers the HTTP route, and writes what
//! that says.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::encode::{self, Pieces};
use super::methods::Call;
use super::{Admitted, settings, transcode};
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress::http::{Front, metadata, repository};
use crate::ingress::memory::{self, Reach};
use crate::ingress::served;
use crate::shared_memory::Segment;

/// Answers a call.
///
/// # Errors
/// What its HTTP twin answers.
pub(super) async fn answer(
    front: &Arc<Front>,
    call: Call,
    Admitted { identity, reach, .. }: &Admitted,
    message: Bytes,
) -> Result<Pieces> {
    let name = name_of(call);
    let request = transcode::read(&format!("inference.{name}Request"), message)?;
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    let snapshot = front.catalog.snapshot();
    let response = match call {
        Call::ServerLive => json!({ "live": true }),
        Call::ServerReady => json!({ "ready": front.is_ready() }),
        Call::ModelReady => {
            let (model, version) = (text("name"), text("version"));
            // One that is not there is not ready, in Triton's words.
            let is_ready = |()| served::is_ready(&snapshot, model, some(version)) && front.is_serving();
            json!({ "ready": check_version(&snapshot, model, version).is_ok_and(is_ready) })
        }
        Call::ServerMetadata => metadata::server_json(&snapshot),
        Call::ModelMetadata => {
            let (model, version) = (text("name"), text("version"));
            check_version(&snapshot, model, version)?;
            metadata::describe(&snapshot, model, some(version))?
        }
        Call::Statistics => {
            let statistics = snapshot.statistics(text("name"), text("version"))?;
            json!({ "model_stats": statistics })
        }
        Call::LogSettings => settings::log(&request, identity)?,
        Call::TraceSetting => settings::trace(front, &request, identity)?,
        Call::ModelConfig => {
            json!({ "config": snapshot.triton_config(text("name"), some(text("version")))? })
        }
        Call::RepositoryIndex => {
            let repository = Some(text("repository_name")).filter(|name| !name.is_empty());
            let ready_only = request["ready"].as_bool().unwrap_or(false);
            let rows = front.repositories.index(repository, ready_only).await?;
            json!({ "models": rows.iter().map(repository::row).collect::<Vec<_>>() })
        }
        Call::RepositoryLoad => {
            check_no_repository(text("repository_name"))?;
            let given = choices(&request["parameters"]);
            let given = given.iter().map(|(name, value)| (name.as_str(), value.as_str().map(Cow::Borrowed)));
            let parameters = repository::load_parameters(given)?;
            front.repositories.load(text("model_name"), parameters).await?;
            json!({})
        }
        Call::RepositoryUnload => {
            check_no_repository(text("repository_name"))?;
            let dependents = repository::unload_dependents(&choices(&request["parameters"]))?;
            front.repositories.unload(text("model_name"), dependents).await?;
            json!({})
        }
        _ => of_memory(call, reach, &request)?,
    };
    respond(name, &response)
}

/// Answers a call about shared memory.
fn of_memory(call: Call, reach: &Reach, request: &Value) -> Result<Value> {
    let text = |field: &str| request[field].as_str().unwrap_or_default();
    Ok(match call {
        Call::SystemMemoryStatus => json!({ "regions": reach.status(some(text("name")))? }),
        Call::SystemMemoryRegister => {
            let number = |field: &str| request[field].as_u64().unwrap_or(0);
            let (offset, byte_size) = (number("offset"), number("byte_size"));
            reach.register(text("name"), Segment { key: text("key").to_owned(), offset, byte_size })?;
            json!({})
        }
        Call::SystemMemoryUnregister => {
            reach.unregister(some(text("name")))?;
            json!({})
        }
        Call::CudaMemoryStatus => json!({ "regions": memory::none_of("cuda", some(text("name")))? }),
        Call::CudaMemoryUnregister => json!({}),
        Call::CudaMemoryRegister => return Err(memory::no_cuda()),
        _ => return Err(Error::new(Kind::MethodNotAllowed, "this method is not supported")),
    })
}

/// A text, if there is any: an empty one is none.
fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A model's name says where it comes from; nothing else is asked for that.
fn check_no_repository(name: &str) -> Result<()> {
    if name.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::MethodNotAllowed, "'repository_name' specification is not supported"))
}

/// A map of choices as the flat one that its HTTP twin takes: `{"a": {"bool_param": true}}`
/// is `{"a": true}`.
fn choices(map: &Value) -> Map<String, Value> {
    let entries = map.as_object().into_iter().flatten();
    let flat = |(name, choice): (&String, &Value)| {
        let value = choice.as_object().and_then(|choice| choice.values().next()).cloned();
        (name.clone(), value.unwrap_or_default())
    };
    entries.map(flat).collect()
}

/// Whether a version of a name is served; an empty version is whichever is.
///
/// # Errors
/// [`Kind::NotFound`].
pub(super) fn check_version(snapshot: &Snapshot, model: &str, version: &str) -> Result<()> {
    served::check(snapshot, model, some(version)).map_err(|error| {
        let are_numbers = snapshot.versions_of(model).iter().all(|one| one.parse::<u64>().is_ok());
        let what = no_number(version).filter(|_| snapshot.serves(model) && are_numbers);
        what.map_or(error, |what| Error::new(Kind::BadRequest, what))
    })
}

/// What is wrong with a version that can be none, where all are numbers. NVIDIA's examples look
/// for the words.
fn no_number(version: &str) -> Option<String> {
    let shown = served::shown(version);
    match version.parse::<i64>() {
        Ok(number) if number >= 0 => None,
        Ok(_) => Some(format!(
            "invalid model version specified '{shown}' , version should be an integral value > 0"
        )),
        Err(_) => Some(format!(
            "failed to get model version from specified version string '{shown}' (details: stol), version should \
             be an integral value > 0"
        )),
    }
}

fn respond(name: &str, response: &Value) -> Result<Pieces> {
    encode::whole(&transcode::write(&format!("inference.{name}Response"), response)?)
}

/// The name of a call's method: its messages are called after it.
fn name_of(call: Call) -> &'static str {
    let row = super::METHODS.iter().find(|rpc| rpc.call == call);
    row.and_then(|rpc| rpc.path.rsplit('/').next()).unwrap_or_default()
}
