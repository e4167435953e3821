//! `[[pipelines.X.routes]]`: paths that a pipeline answers by itself.

use std::sync::Arc;

use http::Method;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{PipelineFile, RouteFile};
use super::super::route::PathTemplate;
use super::super::types::OwnRoute;
use super::Named;
use crate::config::types::Pipeline;

/// The methods that a route may have.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The routes of one pipeline.
pub(super) fn routes(check: &mut Checker<'_>, at: At<'_>, file: &PipelineFile) -> Vec<OwnRoute> {
    if file.routes.len() > d::PIPELINE_ROUTES_MAX {
        check.problem(at, "routes", format!("has more than {} entries", d::PIPELINE_ROUTES_MAX));
    }
    if !file.routes.is_empty() && file.pre.is_none() && file.plugin.is_none() {
        check.problem(at, "routes", "need a plugin that takes the body: pre, or plugin");
    }
    let routes = file.routes.iter().take(d::PIPELINE_ROUTES_MAX);
    routes.filter_map(|route| self::route(check, at, route)).collect()
}

fn route(check: &mut Checker<'_>, at: At<'_>, file: &RouteFile) -> Option<OwnRoute> {
    let method = METHODS.into_iter().find(|method| method.as_str() == file.method);
    if method.is_none() {
        check.problem(at, "routes", "method must be GET, POST, PUT, PATCH or DELETE");
    }
    match PathTemplate::parse(&file.path) {
        Ok(path) => Some(OwnRoute { method: method?, path }),
        Err(message) => {
            check.problem(at, "routes", format!("path '{}' {message}", file.path.escape_debug()));
            None
        }
    }
}

/// No request may fit two routes.
pub(super) fn check_overlaps(check: &mut Checker<'_>, pipelines: &Named<Pipeline>) {
    let mut seen: Vec<(&Arc<str>, &OwnRoute)> = Vec::new();
    for (name, pipeline) in pipelines {
        for route in &pipeline.routes {
            let other = seen.iter().find(|(_, other)| other.overlaps(route));
            if let Some((other_name, other)) = other {
                let message = format!("{route} cannot be told from {other} of `{other_name}`");
                check.problem(At(&["pipelines", name]), "routes", message);
            }
            seen.push((name, route));
        }
    }
    if seen.len() > d::ROUTES_MAX {
        check.problem(At(&["pipelines"]), "", format!("have more than {} routes together", d::ROUTES_MAX));
    }
}
