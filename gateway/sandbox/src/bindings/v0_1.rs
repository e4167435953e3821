//! `sluice:plugin@0.1`: its exports. Its imports are the latest's under another name,
//! so their types are the latest's too, but for those that differ.

wasmtime::component::bindgen!({
    path: "../../wit/plugin-0.1.0",
    inline: "
        package sluice:host;
        world host {
            export sluice:plugin/lifecycle@0.1.0;
            export sluice:plugin/preprocess@0.1.0;
            export sluice:plugin/postprocess@0.1.0;
            export sluice:plugin/handler@0.1.0;
        }
    ",
    world: "sluice:host/host",
    exports: { default: async },
    with: {
        "sluice:plugin/tensors": crate::bindings::v0_3::sluice::plugin::tensors,
        "sluice:plugin/types": crate::bindings::v0_1::types,
    },
    require_store_data_send: true,
});

/// `types`: the latest's, with the records that have grown since as they were.
pub mod types {
    use wasmtime::component::{ComponentType, Lift, Lower};

    pub use crate::bindings::v0_2::types::Answer;
    pub use crate::bindings::v0_3::sluice::plugin::types::*;

    #[derive(Debug, Clone, ComponentType, Lift, Lower)]
    #[component(record)]
    pub struct Context {
        #[component(name = "request-id")]
        pub request_id: String,
        pub pipeline: String,
    }

    #[derive(Debug, Clone, ComponentType, Lift, Lower)]
    #[component(record)]
    pub struct Failure {
        pub status: u16,
        pub message: String,
    }
}
