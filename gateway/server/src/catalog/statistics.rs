//! The statistics of what is served, as both protocols show them.

use super::Snapshot;
use crate::error::{Error, Kind, Result};
use crate::observe::ModelStatistics;

/// The version of a pipeline: there is one of each.
const PIPELINE_VERSION: &str = "1";

impl Snapshot {
    /// The statistics of everything that is served, or of one name, or of one version of it.
    /// A name or version that is empty stands for all, as in gRPC.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name or version that is not served.
    pub fn statistics(&self, name: &str, version: &str) -> Result<Vec<ModelStatistics>> {
        let pipelines =
            self.pipelines.iter().map(|(name, one)| (name, PIPELINE_VERSION, one.metrics.statistics()));
        let models =
            self.models.iter().map(|(name, one)| (name, &*one.config().version, &**one.statistics()));
        let all = pipelines.chain(models);
        let found: Vec<ModelStatistics> = all
            .filter(|(known, _, _)| name.is_empty() || ***known == *name)
            .filter(|(_, known, _)| version.is_empty() || *known == version)
            .map(|(name, version, statistics)| statistics.read(name, version))
            .collect();
        if found.is_empty() && !name.is_empty() {
            return Err(unknown(name, version));
        }
        Ok(found)
    }
}

fn unknown(name: &str, version: &str) -> Error {
    let shown = |text: &str| text.chars().take(128).collect::<String>();
    let version = if version.is_empty() { String::new() } else { format!(" version {}", shown(version)) };
    Error::new(Kind::NotFound, format!("Request for unknown model: '{}'{version} is not found", shown(name)))
}
