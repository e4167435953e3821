//! `GET /admin/v1/status`: what is served, from which files, how the last reload went, and
//! what is under way.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Admin;
use crate::catalog::{Model, Pipeline, PluginSlot, Snapshot, Stages, engine_name};

pub(super) async fn status(State(admin): State<Arc<Admin>>) -> Json<Value> {
    let snapshot = admin.catalog.snapshot();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "generation": snapshot.generation,
        "in_flight": admin.admission.in_flight(),
        "last_reload": admin.reloader.last(),
        "has_state_directory": admin.plugins.has_store(),
        "store_problems": admin.plugins.store_problems(),
        "uploads": admin.plugins.uploads(),
        "baking": admin.plugins.bakes(),
        "models": snapshot.models.values().map(|model| describe_model(model)).collect::<Vec<_>>(),
        "plugins": snapshot.plugins.values().map(|plugin| describe_plugin(plugin)).collect::<Vec<_>>(),
        "pipelines": snapshot.pipelines.values().map(|pipeline| describe_pipeline(&snapshot, pipeline)).collect::<Vec<_>>(),
    }))
}

fn describe_model(model: &Model) -> Value {
    let config = model.config();
    json!({
        "name": &**model.name(),
        "version": &*config.version,
        "digest": model.digest(),
        "engine": engine_name(model.engine()),
        "instances": config.instances,
        "max_batch_size": config.max_batch_size,
        "ready": model.is_ready(),
    })
}

fn describe_plugin(slot: &PluginSlot) -> Value {
    let mut description = json!({
        "name": &*slot.name,
        "owner": slot.config.owner.as_deref(),
        "active": slot.active.as_ref().map(|active| &*active.version),
        "previous": slot.previous.as_ref().map(|previous| &*previous.version),
        "loaded": slot.versions.keys().collect::<Vec<_>>(),
        "problem": slot.problem,
    });
    if let Some(info) = slot.active.as_ref().and_then(|active| active.info()) {
        description["world"] = json!(info.world.to_string());
        description["digest"] = json!(info.digest);
        description["bytes"] = json!(info.size_bytes);
        description["imports"] = json!(info.imports);
    }
    description
}

fn describe_pipeline(snapshot: &Snapshot, pipeline: &Pipeline) -> Value {
    let ready = snapshot.is_ready(&pipeline.name);
    match &pipeline.stages {
        Stages::Whole { plugin } => {
            json!({ "name": &*pipeline.name, "ready": ready, "plugin": &*plugin.slot.name })
        }
        Stages::Ensemble(ensemble) => {
            let models = ensemble.config.steps.iter().map(|step| &*step.model);
            json!({ "name": &*pipeline.name, "ready": ready, "models": models.collect::<Vec<_>>() })
        }
        Stages::Staged { pre, model, post } => json!({
            "name": &*pipeline.name,
            "ready": ready,
            "pre": pre.as_ref().map(|plugin| &*plugin.slot.name),
            "model": &**model.name(),
            "post": post.as_ref().map(|plugin| &*plugin.slot.name),
        }),
    }
}
