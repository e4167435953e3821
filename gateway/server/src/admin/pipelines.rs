//! `/admin/v1/pipelines…`: who gets which version.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::Admin;
use super::plugins::{Answer, Asked, Asker, json_of};
use crate::error::{Error, Kind, Result};

/// The share of requests that a shadow gets of which nothing is said: all.
pub(super) const SAMPLE_DEFAULT: f64 = 1.0;

/// `GET /admin/v1/pipelines`.
pub(super) async fn pipelines(State(admin): State<Arc<Admin>>, asker: Asker) -> Response {
    Json(json!({ "pipelines": admin.plugins.pipelines(&asker.0) })).into_response()
}

/// `GET /admin/v1/pipelines/{pipeline}`.
pub(super) async fn pipeline(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
) -> Answer<impl IntoResponse> {
    let found = admin.plugins.pipelines(&asker.0).into_iter().find(|view| view.pipeline == pipeline);
    let unknown = || {
        // A team learns nothing of pipelines that are not theirs.
        let is_admin = asker.0.identity.is_admin();
        if is_admin {
            Error::new(Kind::NotFound, format!("there is no pipeline '{pipeline}'"))
        } else {
            crate::auth::forbidden()
        }
    };
    asker.answer(found.ok_or_else(unknown))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitBody {
    plugin: String,
    weights: BTreeMap<String, Weight>,
}

/// A weight: to JSON, 2.0 is as whole a number as 2.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Weight(u32);

impl TryFrom<f64> for Weight {
    type Error = &'static str;

    fn try_from(number: f64) -> std::result::Result<Self, Self::Error> {
        if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
            return Err("a weight is a whole number, and not below 0");
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let weight = number as u32;
        Ok(Self(weight))
    }
}

/// `PUT /admin/v1/pipelines/{pipeline}/split`.
pub(super) async fn split(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    let SplitBody { plugin, weights } = json_of(request).await.map_err(|error| asker.refuse_unread(error))?;
    let weights = weights.into_iter().map(|(version, Weight(weight))| (version, weight)).collect();
    let done = admin.plugins.split(&asker.0, &pipeline, &plugin, weights).await;
    changed(&admin, &asker, &pipeline, done)
}

/// Which plugin of the pipeline is meant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    plugin: String,
}

fn which(query: Asked<Which>) -> Result<String> {
    let missing = |_| Error::new(Kind::BadRequest, "the query must name the plugin: ?plugin=NAME");
    query.map(|Query(which)| which.plugin).map_err(missing)
}

/// `DELETE /admin/v1/pipelines/{pipeline}/split?plugin=`.
pub(super) async fn end_split(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    query: Asked<Which>,
) -> Answer<impl IntoResponse> {
    let plugin = which(query).map_err(|error| asker.refuse_unread(error))?;
    let done = admin.plugins.end_split(&asker.0, &pipeline, &plugin).await;
    changed(&admin, &asker, &pipeline, done)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShadowBody {
    plugin: String,
    version: String,
    #[serde(default = "everything")]
    sample: f64,
}

fn everything() -> f64 {
    SAMPLE_DEFAULT
}

/// `PUT /admin/v1/pipelines/{pipeline}/shadow`.
pub(super) async fn shadow(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    request: Request,
) -> Answer<impl IntoResponse> {
    let ShadowBody { plugin, version, sample } =
        json_of(request).await.map_err(|error| asker.refuse_unread(error))?;
    let done = admin.plugins.shadow(&asker.0, &pipeline, &plugin, &version, sample).await;
    changed(&admin, &asker, &pipeline, done)
}

/// `DELETE /admin/v1/pipelines/{pipeline}/shadow?plugin=`.
pub(super) async fn end_shadow(
    State(admin): State<Arc<Admin>>,
    asker: Asker,
    Path(pipeline): Path<String>,
    query: Asked<Which>,
) -> Answer<impl IntoResponse> {
    let plugin = which(query).map_err(|error| asker.refuse_unread(error))?;
    let done = admin.plugins.end_shadow(&asker.0, &pipeline, &plugin).await;
    changed(&admin, &asker, &pipeline, done)
}

/// Shows the pipeline as it is now, if it was changed.
fn changed(
    admin: &Admin,
    asker: &Asker,
    pipeline: &str,
    done: Result<()>,
) -> Answer<impl IntoResponse + use<>> {
    let unknown = || Error::new(Kind::NotFound, format!("there is no pipeline '{pipeline}'"));
    let views = || admin.plugins.pipelines(&asker.0).into_iter();
    let shown = done.and_then(|()| views().find(|view| view.pipeline == pipeline).ok_or_else(unknown));
    asker.answer(shown)
}
