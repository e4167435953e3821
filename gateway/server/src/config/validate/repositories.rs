//! Folders of models.

use std::time::Duration;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::RepositoryFile;
use super::super::types::{ModelControl, Repository};

pub(super) fn repository(check: &mut Checker<'_>, at: At<'_>, file: RepositoryFile) -> Repository {
    let control = file.control.unwrap_or_default();
    if file.poll_seconds.is_some() && control != ModelControl::Poll {
        check.problem(at, "poll_seconds", "is for control = \"poll\"");
    }
    if !file.load.is_empty() && control != ModelControl::Explicit {
        check.problem(at, "load", "is for control = \"explicit\": otherwise every model is loaded");
    }
    if file.load.len() > d::ENTRIES_MAX {
        check.problem(at, "load", format!("has more than {} entries", d::ENTRIES_MAX));
    }
    for name in file.load.iter().filter(|name| *name != "*" && sluice_tensor::check_name(name).is_err()) {
        check.problem(at, "load", format!("{name:?} is not the name of a model"));
    }
    let poll = &d::REPOSITORY_POLL_RANGE;
    let poll = check.number(at, "poll_seconds", file.poll_seconds, d::REPOSITORY_POLL, poll);
    Repository {
        path: check.directory(at, "path", file.path.as_deref()),
        control,
        poll: Duration::from_secs(poll),
        load: file.load,
        exit_on_error: file.exit_on_error.unwrap_or(true),
    }
}
