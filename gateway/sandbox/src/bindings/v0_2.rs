//! `sluice:plugin@0.2`: its exports. Its imports are the latest's under another name,
//! so their types are the latest's too, but for those that differ.

wasmtime::component::bindgen!({
    path: "../../wit/plugin-0.2.0",
    inline: "
        package sluice:host;
        world host {
            export sluice:plugin/lifecycle@0.2.0;
            export sluice:plugin/preprocess@0.2.0;
            export sluice:plugin/postprocess@0.2.0;
            export sluice:plugin/handler@0.2.0;
        }
    ",
    world: "sluice:host/host",
    exports: { default: async },
    with: {
        "sluice:plugin/tensors": crate::bindings::v0_3::sluice::plugin::tensors,
        "sluice:plugin/types": crate::bindings::v0_2::types,
    },
    require_store_data_send: true,
});

/// `types`: the latest's, with those that have grown since as they were.
pub mod types {
    use wasmtime::component::{ComponentType, Lift, Lower};

    pub use crate::bindings::v0_3::sluice::plugin::types::*;

    #[derive(Debug, Clone, ComponentType, Lift, Lower)]
    #[component(record)]
    pub struct Context {
        #[component(name = "request-id")]
        pub request_id: String,
        pub pipeline: String,
        #[component(name = "plugin-version")]
        pub plugin_version: String,
        #[component(name = "deadline-ms")]
        pub deadline_ms: u32,
        #[component(name = "routing-key")]
        pub routing_key: Option<String>,
        pub tenant: Option<String>,
    }

    #[derive(Debug, ComponentType, Lift, Lower)]
    #[component(variant)]
    pub enum Answer {
        #[component(name = "body")]
        Body(HttpAnswer),
        #[component(name = "tensors")]
        Tensors(Vec<NamedSource>),
    }
}
