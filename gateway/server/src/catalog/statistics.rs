//! The statistics of what is served, as both protocols show them.

use super::Snapshot;
use super::versions::{PIPELINE_VERSION, unknown};
use crate::error::Result;
use crate::observe::ModelStatistics;

impl Snapshot {
    /// The statistics of everything that is served, or of one name, or of one version of it.
    /// A name or version that is empty stands for all, as in gRPC.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name or version that is not served.
    pub fn statistics(&self, name: &str, version: &str) -> Result<Vec<ModelStatistics>> {
        let pipelines =
            self.pipelines.iter().map(|(name, one)| (name, PIPELINE_VERSION, one.metrics.statistics()));
        let models = self.all_models().map(|one| (one.name(), &*one.config().version, &**one.statistics()));
        let all = pipelines.chain(models);
        let found: Vec<ModelStatistics> = all
            .filter(|(known, _, _)| name.is_empty() || ***known == *name)
            .filter(|(_, known, _)| version.is_empty() || *known == version)
            .map(|(name, version, statistics)| statistics.read(name, version))
            .collect();
        if found.is_empty() && !name.is_empty() {
            return Err(unknown(name, Some(version)));
        }
        Ok(found)
    }
}
