//! `grpc.health.v1`: what load balancers and Kubernetes' probes ask. A service is the whole
//! server (the empty name), the inference service, or whatever is served by its name.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::encode::{self, Pieces};
use super::reply::{Event, Reply};
use super::wire::{Fields, Writer};
use super::{Server, status};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::drain::Phase;

/// How often a watched state is looked at. Whether something is ready changes when an
/// instance dies and when a snapshot is swapped; nobody tells us of either.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const SERVING: u64 = 1;
const NOT_SERVING: u64 = 2;
const SERVICE_UNKNOWN: u64 = 3;

/// The name of the service whose state is the whole server's.
const INFERENCE: &str = "inference.GRPCInferenceService";

/// The service that a request names.
///
/// # Errors
/// The request is malformed.
fn service(request: Bytes) -> Result<String> {
    let mut service = String::new();
    let mut fields = Fields(request);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            service = value.text()?.to_string();
        }
    }
    Ok(service)
}

fn state(server: &Server, service: &str) -> Option<u64> {
    let front = &server.front;
    let is_ready = match service {
        "" | INFERENCE => front.is_ready(),
        name => {
            let snapshot = front.catalog.snapshot();
            if !snapshot.serves(name) {
                return None;
            }
            front.is_serving() && snapshot.is_ready(name)
        }
    };
    Some(if is_ready { SERVING } else { NOT_SERVING })
}

fn response(state: u64) -> Result<Pieces> {
    let mut out = BytesMut::new();
    Writer(&mut out).varint(1, state);
    encode::whole(&out)
}

/// `Check`.
///
/// # Errors
/// [`Kind::NotFound`] for a service that there is not.
pub(super) fn check(server: &Server, request: Bytes) -> Result<Pieces> {
    let service = service(request)?;
    let unknown = || Error::new(Kind::NotFound, "there is no such service");
    response(state(server, &service).ok_or_else(unknown)?)
}

/// `Watch`.
///
/// # Errors
/// The request is malformed.
pub(super) fn watch(server: &Arc<Server>, request: Bytes) -> Result<Response<Reply>> {
    let service = service(request)?;
    let (events, received) = mpsc::channel(1);
    let server = Arc::clone(server);
    let task = tokio::spawn(async move {
        let mut phase = server.front.phase.clone();
        let mut told = None;
        while *phase.borrow() < Phase::Stopping {
            let state = state(&server, &service).unwrap_or(SERVICE_UNKNOWN);
            if told != Some(state) {
                told = Some(state);
                let Ok(message) = response(state) else { return };
                if events.send(Event::Message(message.into())).await.is_err() {
                    return;
                }
            }
            // Either is a reason to look.
            let _ = tokio::time::timeout(LOOK_EVERY, phase.changed()).await;
        }
        let leaving = Error::new(Kind::Draining, "the gateway is shutting down");
        let _ = events.send(Event::End(status::failed(&leaving))).await;
    });
    Ok(Reply::stream(received, AbortOnDropHandle::new(task)))
}
