//! The same model gives the same answer on every engine.

use sluice_engine::EngineKind;

use crate::common::{GOLDEN_MODELS, assert_close, engines, goldens, load, run_alone};

/// Most that a value may be off. ONNX Runtime made the goldens, on a machine whose
/// kernels may sum in another order; rten sums in its own.
const TOLERANCE_ONNXRUNTIME: f64 = 1e-6;
const TOLERANCE_EMBEDDED: f64 = 2e-6;

#[test]
fn golden_answers_come_out_of_every_engine() {
    for engine in engines() {
        let tolerance = match engine.kind() {
            EngineKind::OnnxRuntime => TOLERANCE_ONNXRUNTIME,
            _ => TOLERANCE_EMBEDDED,
        };
        for name in GOLDEN_MODELS {
            let model = load(&*engine, name, 8);
            for golden in goldens(name) {
                let got = run_alone(&*model, golden.inputs).unwrap();
                assert_close(&got, &golden.outputs, tolerance, &format!("{name} on {:?}", engine.kind()));
            }
        }
    }
}

#[test]
fn engines_read_the_same_signature_from_a_file() {
    let [onnxruntime, embedded] = engines();
    for name in GOLDEN_MODELS.into_iter().chain(["identity_i64", "identity_bool", "identity_u32", "hashing"])
    {
        let (one, other) = (load(&*onnxruntime, name, 0), load(&*embedded, name, 0));
        assert_eq!(one.signature(), other.signature(), "{name}");
        assert!(!one.signature().inputs.is_empty(), "{name}");
    }
}
