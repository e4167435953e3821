//! [`ConfigFile`] to [`Config`]: defaults, ranges and references. All problems are
//! collected; the configuration is only worth anything if there were none.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::checker::{At, Checker};
use super::defaults as d;
use super::file::ConfigFile;
use super::problem::Problem;
use super::read::Origin;
use super::types::{Config, TextDigest};

mod access;
mod batching;
mod ensembles;
mod models;
mod plugins;
mod presentation;
mod repositories;
mod routes;
mod sequence;
mod server;
mod serving;

type Named<T> = BTreeMap<Arc<str>, T>;

pub(super) fn validate(
    source: &Path,
    file: ConfigFile,
    origin: &Origin,
    environment: &BTreeMap<String, String>,
) -> (Config, Vec<Problem>) {
    let folder = source.parent().unwrap_or_else(|| Path::new("."));
    let mut check = Checker { folder, origin, environment, has_repositories: false, problems: Vec::new() };
    let tokens =
        named(&mut check, "tokens", file.tokens, |check, at, _, file| access::token(check, at, &file));
    let keys = named(&mut check, "keys", file.keys, |check, at, _, file| access::key(check, at, &file));
    let server = server::server(&mut check, &file.server, &tokens);
    let engine = serving::engine(&mut check, file.engine);
    let sandbox = serving::sandbox(&mut check, file.sandbox);
    let telemetry = serving::telemetry(&mut check, file.telemetry);
    let state = serving::state(&mut check, &file.state);
    let cache = serving::cache(&mut check, &file.cache);
    let verify = serving::verify(&mut check, &file.verify);
    let egress = serving::egress(&mut check, &file.egress);
    let oci = serving::oci(&mut check, file.oci);
    let stores = named(&mut check, "stores", file.stores, |check, at, _, file| {
        serving::store(check, at, &file, state.dir.is_some())
    });
    let repositories = named(&mut check, "repositories", file.repositories, |check, at, _, file| {
        repositories::repository(check, at, file)
    });
    if repositories.len() > d::REPOSITORIES_MAX {
        check.problem(At(&["repositories"]), "", format!("has more than {} entries", d::REPOSITORIES_MAX));
    }
    check.has_repositories = !repositories.is_empty();
    let (models, older_versions) = models::models(&mut check, file.models, &engine);
    let around = plugins::Around { sandbox: &sandbox, state: &state, stores: &stores, models: &models };
    let plugins = named(&mut check, "plugins", file.plugins, |check, at, name, file| {
        plugins::plugin(check, at, name, file, &around)
    });
    let limits = &server.limits;
    let mut pipelines = named(&mut check, "pipelines", file.pipelines, |check, at, name, file| {
        if models.contains_key(&name) {
            check.problem(at, "", "a model has this name too, and clients could not tell them apart");
        }
        plugins::pipeline(check, at, name, &file, limits, &models, &plugins)
    });
    let pipelines = pipelines.iter_mut().filter_map(|(name, found)| Some((name.clone(), found.take()?)));
    let pipelines = pipelines.collect();
    routes::check_overlaps(&mut check, &pipelines);
    let source = source.to_owned();
    let config = Config {
        source,
        digest: TextDigest::default(),
        server,
        engine,
        sandbox,
        telemetry,
        state,
        cache,
        verify,
        egress,
        oci,
        tokens,
        keys,
        stores,
        repositories,
        models,
        older_versions,
        plugins,
        pipelines,
    };
    (config, check.problems)
}

/// Checks the names of a kind of entries, and each entry.
fn named<'a, F, T>(
    check: &mut Checker<'a>,
    kind: &str,
    entries: BTreeMap<String, F>,
    mut each: impl FnMut(&mut Checker<'a>, At<'_>, Arc<str>, F) -> T,
) -> Named<T> {
    if entries.len() > d::ENTRIES_MAX {
        check.problem(At(&[kind]), "", format!("has more than {} entries", d::ENTRIES_MAX));
    }
    let mut checked = Named::new();
    for (name, entry) in entries.into_iter().take(d::ENTRIES_MAX) {
        let at = At(&[kind, &name]);
        if let Err(error) = sluice_tensor::check_name(&name) {
            check.problem(at, "", error.to_string());
        }
        let name: Arc<str> = name.as_str().into();
        let value = each(check, at, name.clone(), entry);
        checked.insert(name, value);
    }
    checked
}
