//! Triton's shared memory extensions, whatever protocol carried the request: who may use system
//! shared memory, what is registered, and tensors that lie in it.
//!
//! Memory of CUDA devices is not served. Its status is that nothing is registered, as that of a
//! Triton without such devices, and registering is refused.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde_json::{Map, Value, json};
use sluice_tensor::TensorError;

use super::http::Front;
use super::served::shown;
use crate::auth::{Connection, Identity, check_local, forbidden};
use crate::error::{Error, Kind, Result};
use crate::pipeline::Parameter;
use crate::shared_memory::{Holder, Part, Place, Segment, SharedMemory};
use crate::tensor_json::to_error;

/// What a caller may reach of the shared memory: its own regions, or why none.
#[derive(Clone)]
pub struct Reach(Result<(Arc<SharedMemory>, Holder)>);

impl Reach {
    /// What this caller may reach.
    pub fn of(
        front: &Front,
        identity: Option<&Identity>,
        uri: &Uri,
        headers: &HeaderMap,
        connection: Option<&Connection>,
    ) -> Self {
        if !front.shared_memory.is_enabled() {
            return Self(Err(Error::new(
                Kind::Unsupported,
                "shared memory is off: send the data in the request, or set server.shared_memory.enabled",
            )));
        }
        let snapshot = front.catalog.snapshot();
        let is_local = check_local(uri, headers, connection, &snapshot.config.server.admin_hosts);
        let holder = is_local.and_then(|()| identity.map(Holder::of).ok_or_else(forbidden));
        Self(holder.map(|holder| (Arc::clone(&front.shared_memory), holder)))
    }

    /// Nothing: for tests.
    #[cfg(test)]
    pub fn nothing() -> Self {
        Self(Err(Error::new(Kind::Unsupported, "shared memory is off")))
    }

    fn get(&self) -> Result<(&SharedMemory, &Holder)> {
        self.0.as_ref().map(|(memory, holder)| (&**memory, holder)).map_err(Clone::clone)
    }

    /// Whether it is off, so that there is nothing to be seen or forgotten.
    fn is_off(&self) -> bool {
        self.0.as_ref().is_err_and(|error| error.kind() == Kind::Unsupported)
    }

    /// The part that a tensor's parameters name, if they name one.
    ///
    /// # Errors
    /// Why the caller may not use it, or what is wrong with it.
    pub fn part(&self, parameters: &[(Arc<str>, Parameter)], tensor: &str) -> Result<Option<Part>> {
        let Some(place) = Place::read(parameters, tensor)? else { return Ok(None) };
        let (memory, holder) = self.get()?;
        memory.part(holder, place).map(Some)
    }

    /// Copies an input's data, if its parameters say that it lies in shared memory. `want` is how
    /// many bytes it must have, where that is known; `grow` takes room for them.
    ///
    /// # Errors
    /// As [`Reach::part`]; another length; no room.
    pub fn read(
        &self,
        parameters: &[(Arc<str>, Parameter)],
        input: &str,
        want: Option<usize>,
        grow: impl FnOnce(usize) -> Result<()>,
    ) -> Result<Option<Bytes>> {
        let Some(part) = self.part(parameters, input)? else { return Ok(None) };
        let got = part.bytes_to_read()?;
        if let Some(want) = want.filter(|want| *want != got) {
            let error = to_error(&TensorError::Length { got, want });
            return Err(Error::new(error.kind(), format!("input '{}': {}", shown(input), error.message())));
        }
        grow(got)?;
        part.read().map(Some)
    }

    /// The caller's regions, or the one of that name, as gRPC has them: by their names.
    ///
    /// # Errors
    /// As [`SharedMemory::status`]; why the caller may not see them.
    pub fn status(&self, name: Option<&str>) -> Result<Map<String, Value>> {
        if self.is_off() {
            return none_of("system", name);
        }
        let (memory, holder) = self.get()?;
        let regions = memory.status(holder, name)?.into_iter();
        let regions = regions.map(|(name, Segment { key, offset, byte_size })| {
            let region = json!({ "name": &name, "key": key, "offset": offset, "byte_size": byte_size });
            (name, region)
        });
        Ok(regions.collect())
    }

    /// Registers a region.
    ///
    /// # Errors
    /// As [`SharedMemory::register`]; why the caller may not.
    pub fn register(&self, name: &str, segment: Segment) -> Result<()> {
        let (memory, holder) = self.get()?;
        memory.register(holder, name, segment)?;
        tracing::info!(?holder, "shared memory registered");
        Ok(())
    }

    /// Forgets a region, or all of the caller's.
    ///
    /// # Errors
    /// Why the caller may not.
    pub fn unregister(&self, name: Option<&str>) -> Result<()> {
        if !self.is_off() {
            let (memory, holder) = self.get()?;
            memory.unregister(holder, name);
        }
        Ok(())
    }
}

/// The status of memory of which nothing is registered.
///
/// # Errors
/// [`Kind::NotFound`] for a name.
pub fn none_of(kind: &str, name: Option<&str>) -> Result<Map<String, Value>> {
    match name {
        None => Ok(Map::new()),
        Some(name) => Err(Error::new(
            Kind::NotFound,
            format!("Unable to find {kind} shared memory region: '{}'", shown(name)),
        )),
    }
}

/// The answer to who registers memory of a CUDA device.
pub fn no_cuda() -> Error {
    Error::new(Kind::Unsupported, "CUDA shared memory is not supported: send the data in the request")
}

/// Reads what is to be registered from its JSON.
///
/// # Errors
/// [`Kind::BadRequest`], in Triton's words.
pub fn segment(request: &Map<String, Value>) -> Result<Segment> {
    let fault = |message: String| Error::new(Kind::BadRequest, message);
    let field = |name: &str| {
        let missing = || fault(format!("Shared memory register request has no '{name}' field"));
        request.get(name).ok_or_else(missing)
    };
    let not_a = |kind: &str| fault(format!("attempt to access JSON non-{kind} as {kind}"));
    let number = |value: &Value| value.as_u64().ok_or_else(|| not_a("unsigned-integer"));
    let key = field("key")?.as_str().ok_or_else(|| not_a("string"))?.to_owned();
    let offset = request.get("offset").map_or(Ok(0), number)?;
    Ok(Segment { key, offset, byte_size: number(field("byte_size")?)? })
}
