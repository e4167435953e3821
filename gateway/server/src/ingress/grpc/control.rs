//! The calls that are no predictions: what the server and its models are, and how they are
//! managed. Each reads its message, asks who also answers the HTTP route, and writes what
//! that says.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::encode::{self, Pieces};
use super::methods::Call;
use super::{settings, transcode};
use crate::auth::Identity;
use crate::catalog::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::ingress::http::{Front, metadata};
use crate::ingress::served;

/// Answers a call.
///
/// # Errors
/// What its HTTP twin answers.
pub(super) async fn answer(
    front: &Arc<Front>,
    call: Call,
    identity: &Identity,
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
            let is_there = check_version(&snapshot, model, version).is_ok();
            json!({ "ready": is_there && front.is_serving() && snapshot.is_ready(model) })
        }
        Call::ServerMetadata => metadata::server_json(&snapshot),
        Call::ModelMetadata => {
            let (model, version) = (text("name"), text("version"));
            check_version(&snapshot, model, version)?;
            metadata::describe(&snapshot, model, Some(version)).ok_or_else(|| served::unknown(model))?
        }
        Call::Statistics => {
            let statistics = snapshot.statistics(text("name"), text("version"))?;
            json!({ "model_stats": statistics })
        }
        Call::LogSettings => settings::log(&request, identity)?,
        Call::TraceSetting => settings::trace(front, &request, identity)?,
        Call::SystemMemoryStatus | Call::CudaMemoryStatus => json!({ "regions": {} }),
        Call::SystemMemoryUnregister | Call::CudaMemoryUnregister => json!({}),
        Call::CudaMemoryRegister => {
            return Err(Error::new(
                Kind::MethodNotAllowed,
                "CUDA shared memory is not supported: send the data in the message",
            ));
        }
        _ => return Err(Error::new(Kind::MethodNotAllowed, "this method is not supported")),
    };
    respond(name, &response)
}

/// Whether a version of a name is served; an empty version is whichever is.
///
/// # Errors
/// [`Kind::NotFound`].
pub(super) fn check_version(snapshot: &Snapshot, model: &str, version: &str) -> Result<()> {
    match version {
        "" if snapshot.serves(model) => Ok(()),
        "" => Err(served::unknown(model)),
        version => served::check_version(snapshot, model, version),
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
