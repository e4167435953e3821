//! The statistics of what is served, as both protocols show them.

use super::{Pipeline, Snapshot};
use crate::error::{Error, Kind, Result};
use crate::observe::ModelStatistics;

impl Snapshot {
    /// The statistics of everything that is served, or of one name, or of one version of it.
    /// A name or version that is empty stands for all, as in gRPC.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for a name or version that is not served.
    pub fn statistics(&self, name: &str, version: &str) -> Result<Vec<ModelStatistics>> {
        let of_pipeline = |(name, one)| {
            let versions = Pipeline::counted(one).into_iter();
            versions.map(move |(version, statistics)| (name, version, statistics))
        };
        let pipelines = self.pipelines.iter().map(|(name, one)| (name, &**one)).flat_map(of_pipeline);
        let models = self.all_models().map(|one| (one.name(), &*one.config().version, &**one.statistics()));
        let all = pipelines.chain(models);
        let mut found: Vec<ModelStatistics> = all
            .filter(|(known, _, _)| name.is_empty() || ***known == *name)
            .filter(|(_, known, _)| version.is_empty() || *known == version)
            .map(|(name, version, statistics)| statistics.read(name, version))
            .collect();
        if found.is_empty() && !name.is_empty() {
            return Err(unknown(name, self.serves(name)));
        }
        found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        Ok(found)
    }
}

/// In Triton's words, which for statistics are other ones than for a prediction.
fn unknown(name: &str, is_served: bool) -> Error {
    let shown: String = name.chars().take(128).collect();
    Error::new(
        Kind::NotFound,
        match is_served {
            true => format!("requested model version is not available for model '{shown}'"),
            false => format!("requested model '{shown}' is not available"),
        },
    )
}
