//! Answers with what it was given, and how often this instance was called: two
//! requests that see each other's count shared an instance.

use serde::Serialize;
use sluice_sdk::{Answer, Config, Error, Payload, Prepared, Preprocessor, Request};

struct Echo {
    config: String,
    calls: u32,
}

#[derive(Serialize)]
struct Heard<'a> {
    body: &'a str,
    content_type: Option<&'a str>,
    request_id: &'a str,
    pipeline: &'a str,
    config: &'a str,
    calls: u32,
}

impl Preprocessor for Echo {
    fn init(config: Config) -> Result<Self, String> {
        Ok(Self { config: config.as_json().to_owned(), calls: 0 })
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        self.calls += 1;
        let body = match &request.payload {
            Payload::Body(body) => body,
            Payload::Tensors(_) => return Ok(Answer::tensors(request.into_tensors()?.into_vec()).into()),
        };
        let heard = Heard {
            body: request.text()?,
            content_type: body.content_type.as_deref(),
            request_id: &request.context.request_id,
            pipeline: &request.context.pipeline,
            config: &self.config,
            calls: self.calls,
        };
        Ok(Answer::json(&heard)?.into())
    }
}

sluice_sdk::export_preprocessor!(Echo);
