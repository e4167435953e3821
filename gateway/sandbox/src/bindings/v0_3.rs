//! `sluice:plugin@0.3`, the latest.

wasmtime::component::bindgen!({
    path: "../../wit/plugin-0.3.0",
    inline: "
        package sluice:host;
        world host {
            include sluice:plugin/pipeline@0.3.0;
            export sluice:plugin/preprocess@0.3.0;
            export sluice:plugin/postprocess@0.3.0;
        }
    ",
    world: "sluice:host/host",
    imports: {
        "wasi:keyvalue/store@0.2.0-draft": async | trappable,
        "wasi:keyvalue/batch@0.2.0-draft": async | trappable,
        "sluice:plugin/tensors@0.3.0.[method]tensor.top-k": async | trappable,
        "sluice:plugin/tensors@0.3.0.[method]tensor.gather": async | trappable,
        "sluice:plugin/inference@0.3.0.infer": async | trappable,
        "sluice:plugin/inference@0.3.0.[method]pending.wait": async | trappable,
        "sluice:plugin/parts@0.3.0.send": async | trappable,
        "sluice:plugin/parts@0.3.0.pause": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: {
        "sluice:plugin/tensors.tensor": sluice_tensor::Tensor,
        "sluice:plugin/tensors.writer": crate::host::tensors::Writer,
        "sluice:plugin/inference.pending": crate::host::inference::Pending,
        "sluice:plugin/spans.span": crate::host::spans::GuestSpan,
        "wasi:keyvalue/store.bucket": crate::host::keyvalue::Bucket,
    },
    require_store_data_send: true,
});
