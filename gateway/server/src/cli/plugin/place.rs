//! A plugin in a pipeline, and what commands say about its traffic.

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use crate::cli::outcome::Outcome;
use crate::cli::remote::{Client, ServerArguments, name, show};

#[derive(Debug, Args)]
pub(super) struct Place {
    /// The pipeline.
    #[arg(value_name = "PIPELINE")]
    pub(super) pipeline: String,
    /// The plugin of it that has the versions.
    #[arg(value_name = "PLUGIN")]
    pub(super) plugin: String,
    #[command(flatten)]
    server: ServerArguments,
}

impl Place {
    /// Says `what` (`split`, `shadow`) is to be done with the plugin's requests, and shows the
    /// answer, or else that it is done.
    pub(super) async fn put(&self, what: &str, mut body: Map<String, Value>, done: String) -> Outcome {
        let path = self.path(what)?;
        body.insert("plugin".to_owned(), name("plugin", &self.plugin)?.into());
        let answer = Client::new(&self.server)?.change(Method::PUT, &path, &body.into()).await?;
        show(&self.server, &answer, |_| done)
    }

    /// Ends it.
    pub(super) async fn end(&self, what: &str, done: String) -> Outcome {
        let path = format!("{}?plugin={}", self.path(what)?, name("plugin", &self.plugin)?);
        let client = Client::new(&self.server)?;
        let answer = client.send(client.request(Method::DELETE, &path)).await?.json()?;
        show(&self.server, &answer, |_| done)
    }

    fn path(&self, what: &str) -> Outcome<String> {
        Ok(format!("/admin/v1/pipelines/{}/{what}", name("pipeline", &self.pipeline)?))
    }
}
