//! Generated from `wit/`: the host's functions once, and each exported interface once.
//!
//! The contract's worlds share interfaces, and bindings of two worlds that export the
//! same one would clash. So each interface has a small world of its own here; a plugin
//! exports several, and the linker joins them into what the contract calls
//! `preprocessor`, `transformer` and so on.
//!
//! Importing here asks for nothing: functions that a plugin does not call are not
//! in its component.
#![expect(missing_docs, reason = "generated code")]
#![allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated code")]

pub mod platform {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "
            package sluice:sdk-platform;
            world platform {
                import sluice:plugin/types@0.3.0;
                import sluice:plugin/tensors@0.3.0;
                import sluice:plugin/inference@0.3.0;
                import sluice:plugin/deadline@0.3.0;
                import sluice:plugin/parts@0.3.0;
                import sluice:plugin/spans@0.3.0;
                import wasi:logging/logging@0.1.0-draft;
            }
        ",
        world: "sluice:sdk-platform/platform",
        generate_all,
        generate_unused_types: true,
    });
}

/// Look-ups take their keys by reference, which spares a copy of every key.
pub mod keyvalue {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "
            package sluice:sdk-keyvalue;
            world keyvalue {
                import wasi:keyvalue/store@0.2.0-draft;
                import wasi:keyvalue/batch@0.2.0-draft;
            }
        ",
        world: "sluice:sdk-keyvalue/keyvalue",
        generate_all,
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "package sluice:sdk-lifecycle; world lifecycle { export sluice:plugin/lifecycle@0.3.0; }",
        world: "sluice:sdk-lifecycle/lifecycle",
        generate_all,
        pub_export_macro: true,
    });
}

pub mod preprocess {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "package sluice:sdk-preprocess; world preprocess { export sluice:plugin/preprocess@0.3.0; }",
        world: "sluice:sdk-preprocess/preprocess",
        with: {
            "sluice:plugin/tensors@0.3.0": crate::wasm::bindings::platform::sluice::plugin::tensors,
            "sluice:plugin/types@0.3.0": crate::wasm::bindings::platform::sluice::plugin::types,
        },
        generate_all,
        pub_export_macro: true,
    });
}

pub mod postprocess {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "package sluice:sdk-postprocess; world postprocess { export sluice:plugin/postprocess@0.3.0; }",
        world: "sluice:sdk-postprocess/postprocess",
        with: {
            "sluice:plugin/tensors@0.3.0": crate::wasm::bindings::platform::sluice::plugin::tensors,
            "sluice:plugin/types@0.3.0": crate::wasm::bindings::platform::sluice::plugin::types,
        },
        generate_all,
        pub_export_macro: true,
    });
}

pub mod handler {
    wit_bindgen::generate!({
        path: "../../wit/plugin-0.3.0",
        inline: "package sluice:sdk-handler; world handler { export sluice:plugin/handler@0.3.0; }",
        world: "sluice:sdk-handler/handler",
        with: {
            "sluice:plugin/tensors@0.3.0": crate::wasm::bindings::platform::sluice::plugin::tensors,
            "sluice:plugin/types@0.3.0": crate::wasm::bindings::platform::sluice::plugin::types,
        },
        generate_all,
        pub_export_macro: true,
    });
}
