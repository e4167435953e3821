//! What of Triton's model configuration cannot be done here. A field that would change
//! answers is refused, with what to do; one that cannot, on a CPU, is noted in the log.

use serde_json::{Map, Value as Json};

/// What a configuration asks for beyond what there is.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Reasons not to serve the model, each with its field.
    pub(super) refused: Vec<String>,
    /// Fields without effect.
    pub(super) ignored: Vec<&'static str>,
}

/// A field, where it is looked for, and what to do about it.
struct Refused {
    /// Lists and maps on the way are gone through.
    path: &'static str,
    when: When,
    advice: &'static str,
}

enum When {
    /// Anything but false, zero or empty.
    Set,
    /// Another text than one of these.
    NotOneOf(&'static [&'static str]),
}

const ONNX_ONLY: &str = "Sluice serves ONNX models (onnxruntime_onnx) and ensembles; what a Python or other backend \
                         does before or after a model goes into a plugin";
const RAGGED: &str = "ragged batches are not supported: give every request the same dimensions";
const DEVICES: &str = "this build runs models on the CPU: use KIND_CPU or KIND_AUTO";

const REFUSED: &[Refused] = &[
    Refused {
        path: "platform",
        when: When::NotOneOf(&["", "onnxruntime_onnx", "ensemble"]),
        advice: ONNX_ONLY,
    },
    Refused { path: "backend", when: When::NotOneOf(&["", "onnxruntime"]), advice: ONNX_ONLY },
    Refused { path: "runtime", when: When::Set, advice: "no library is loaded for a model: remove it" },
    Refused { path: "batch_input", when: When::Set, advice: RAGGED },
    Refused { path: "batch_output", when: When::Set, advice: RAGGED },
    Refused {
        path: "input.is_shape_tensor",
        when: When::Set,
        advice: "shape tensors are TensorRT's: remove it",
    },
    Refused { path: "input.allow_ragged_batch", when: When::Set, advice: RAGGED },
    Refused { path: "input.optional", when: When::Set, advice: "every input is needed: remove it" },
    Refused { path: "input.is_non_linear_format_io", when: When::Set, advice: "it is TensorRT's: remove it" },
    Refused {
        path: "output.is_shape_tensor",
        when: When::Set,
        advice: "shape tensors are TensorRT's: remove it",
    },
    Refused {
        path: "output.is_non_linear_format_io",
        when: When::Set,
        advice: "it is TensorRT's: remove it",
    },
    Refused {
        path: "instance_group.kind",
        when: When::NotOneOf(&["KIND_AUTO", "KIND_CPU"]),
        advice: DEVICES,
    },
    Refused { path: "instance_group.gpus", when: When::Set, advice: DEVICES },
    Refused { path: "instance_group.secondary_devices", when: When::Set, advice: DEVICES },
    Refused { path: "instance_group.profile", when: When::Set, advice: "profiles are TensorRT's: remove it" },
    Refused { path: "instance_group.passive", when: When::Set, advice: "every instance runs: remove it" },
    Refused {
        path: "optimization.execution_accelerators.cpu_execution_accelerator",
        when: When::Set,
        advice: "models run on ONNX Runtime's own CPU provider: remove it",
    },
    Refused {
        path: "model_operations.op_library_filename",
        when: When::Set,
        advice: "no library is loaded for a model: export it without custom operators",
    },
    Refused {
        path: "model_transaction_policy.decoupled",
        when: When::Set,
        advice: "an ONNX model gives one answer for a request: remove it",
    },
    Refused {
        path: "model_repository_agents.agents",
        when: When::Set,
        advice: "agents are not supported: remove it",
    },
    Refused {
        path: "ensemble_scheduling.step.model_namespace",
        when: When::Set,
        advice: "models have one name in all repositories: remove it",
    },
    Refused {
        path: "sequence_batching.iterative_sequence",
        when: When::Set,
        advice: "iterative sequences are not supported: remove it",
    },
];

/// Fields that cannot change an answer on a CPU.
const IGNORED: &[&str] = &[
    "input.format",
    "optimization.graph",
    "optimization.priority",
    "optimization.cuda",
    "optimization.execution_accelerators.gpu_execution_accelerator",
    "optimization.input_pinned_memory",
    "optimization.output_pinned_memory",
    "optimization.gather_kernel_buffer_threshold",
    "optimization.eager_batching",
    "instance_group.host_policy",
    "cc_model_filenames",
    "metric_tags",
    "model_metrics",
    "ensemble_scheduling.max_inflight_requests",
];

/// Looks at all that was set.
pub(super) fn check(set: &Map<String, Json>) -> Verdict {
    let mut verdict = Verdict::default();
    for rule in REFUSED {
        let mut found = None;
        visit(set, rule.path, &mut |value| {
            let is_refused = match rule.when {
                When::Set => !is_empty(value),
                When::NotOneOf(allowed) => value.as_str().is_some_and(|text| !allowed.contains(&text)),
            };
            if is_refused && found.is_none() {
                found = Some(value.clone());
            }
        });
        let Some(found) = found else { continue };
        let shown = match &found {
            Json::String(text) => format!(" '{}'", text.chars().take(64).collect::<String>()),
            _ => String::new(),
        };
        verdict.refused.push(format!("{}{shown} is not supported: {}", rule.path, rule.advice));
    }
    for path in IGNORED {
        let mut is_set = false;
        visit(set, path, &mut |value| is_set |= !is_empty(value) && value.as_str() != Some("FORMAT_NONE"));
        if is_set {
            verdict.ignored.push(path);
        }
    }
    verdict
}

/// Calls `each` with all values at a path.
fn visit(object: &Map<String, Json>, path: &str, each: &mut dyn FnMut(&Json)) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (object.get(first), rest) {
        (None, _) => {}
        (Some(value), None) => each(value),
        (Some(Json::Object(inner)), Some(rest)) => visit(inner, rest, each),
        (Some(Json::Array(elements)), Some(rest)) => {
            elements.iter().filter_map(Json::as_object).for_each(|inner| visit(inner, rest, each));
        }
        _ => {}
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(truth) => !truth,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(elements) => elements.is_empty(),
        Json::Object(_) => false,
    }
}
