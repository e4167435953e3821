//! Server reflection, in both of its versions, which differ in the package's name alone:
//! what services there are, and the files that describe them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Response;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::encode;
use super::receive::Messages;
use super::reply::{Event, Reply};
use super::schema::SCHEMA;
use super::wire::{Fields, Text, Value, Writer};
use super::{CONTROL_TIME_MAX, Server, status};
use crate::error::{Error, Kind, Result};
use crate::ingress::pace::Pace;
use crate::lifecycle::drain::Phase;

/// gRPC's code for what is not there.
const NOT_FOUND: u64 = 5;
/// gRPC's code for what nobody does.
const UNIMPLEMENTED: u64 = 12;

/// What a request asks for.
enum Question {
    File(Text),
    Symbol(Text),
    Services,
    /// Extensions: proto3 has none.
    Extension,
}

/// `ServerReflectionInfo`: an answer for each request, in order.
pub(super) fn info(server: &Arc<Server>, mut requests: Messages) -> Response<Reply> {
    let (events, received) = mpsc::channel(1);
    let mut phase = server.front.phase.clone();
    let task = tokio::spawn(async move {
        let work = async {
            while !requests.is_at_end().await? {
                let pace = Pace::new(Instant::now(), CONTROL_TIME_MAX);
                let Some(request) = requests.next(None, pace).await? else { break };
                let answer = encode::whole(&answer(request)?)?;
                if events.send(Event::Message(answer.into())).await.is_err() {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            _ = phase.wait_for(|phase| *phase == Phase::Stopping) => {
                Err(Error::new(Kind::Draining, "the gateway is shutting down"))
            }
        };
        let trailers = outcome.map_or_else(|error| status::failed(&error), |()| status::ok());
        let _ = events.send(Event::End(trailers)).await;
    });
    Reply::stream(received, AbortOnDropHandle::new(task))
}

fn question(request: Bytes) -> Result<(Bytes, Option<Question>)> {
    let (mut host, mut question) = (Bytes::new(), None);
    let mut fields = Fields(request);
    while let Some((number, value)) = fields.next()? {
        question = match (number, value) {
            (1, value) => {
                host = value.bytes()?;
                continue;
            }
            (3, value) => Some(Question::File(value.text()?)),
            (4, value) => Some(Question::Symbol(value.text()?)),
            (5 | 6, Value::Bytes(_)) => Some(Question::Extension),
            (7, Value::Bytes(_)) => Some(Question::Services),
            _ => continue,
        };
    }
    Ok((host, question))
}

fn answer(request: Bytes) -> Result<BytesMut> {
    let (host, question) = question(request.clone())?;
    let mut out = BytesMut::new();
    let mut writer = Writer(&mut out);
    writer.bytes(1, &host);
    writer.bytes(2, &request);
    match question {
        Some(Question::Services) => writer.message(6, |list| {
            for service in &SCHEMA.services {
                list.message(1, |one| one.text(1, service));
            }
        }),
        Some(Question::File(name)) => {
            let found = SCHEMA.files.iter().position(|file| *file.name == *name);
            files(&mut writer, found);
        }
        Some(Question::Symbol(name)) => {
            let found = SCHEMA.symbols.get(name.trim_start_matches('.')).copied();
            files(&mut writer, found);
        }
        Some(Question::Extension) => failed(&mut writer, NOT_FOUND, "there are no extensions"),
        None => failed(&mut writer, UNIMPLEMENTED, "this kind of request is not known"),
    }
    Ok(out)
}

/// A file, and those that it imports behind it.
fn files(writer: &mut Writer<'_>, found: Option<usize>) {
    let Some(file) = found.and_then(|place| SCHEMA.files.get(place)) else {
        return failed(writer, NOT_FOUND, "there is no such file or symbol");
    };
    let imported = SCHEMA.files.iter().filter(|other| file.imports.contains(&other.name));
    writer.message(4, |response| {
        for file in std::iter::once(file).chain(imported) {
            response.bytes(1, &file.descriptor);
        }
    });
}

fn failed(writer: &mut Writer<'_>, code: u64, message: &str) {
    writer.message(7, |error| {
        error.varint(1, code);
        error.text(2, message);
    });
}
