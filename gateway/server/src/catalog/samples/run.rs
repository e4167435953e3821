//! One case against one plugin.

use sluice_sandbox::{Answer, CallContext, CallError, HttpAnswer, Prepared, World};
use sluice_tensor::NamedTensor;
use tokio::time::Instant;

use super::compare::{self, Diff};
use super::{Case, Expect, SAMPLES_BYTES_MAX, Verdict};
use crate::pipeline::Hook;

/// Why a case cannot be run, or what came of it.
enum Outcome {
    /// The case is for another kind of plugin.
    Misfit(&'static str),
    Failed(CallError),
    Inputs(Vec<NamedTensor>),
    Answer(Answer),
}

/// Runs a case: the hooks of the plugin's world that the case has something for, under
/// the plugin's own limits and the deadline of `context`.
///
/// Cancel-safe: dropping it ends the guest's call.
pub async fn run(hook: &dyn Hook, world: World, case: &Case, context: CallContext) -> Verdict {
    hook.take_memory_peak();
    let started = Instant::now();
    let outcome = call(hook, world, case, context).await;
    let took = started.elapsed();
    let mut diff = Diff::new(case.tolerance);
    judge(outcome, case.expect.as_ref(), &mut diff);
    let memory_peak_bytes = hook.take_memory_peak();
    Verdict { name: case.name.clone(), diff: diff.finish(), took, memory_peak_bytes }
}

async fn call(hook: &dyn Hook, world: World, case: &Case, context: CallContext) -> Outcome {
    if world.has_preprocess() || world.has_postprocess() {
        return call_stages(hook, world, case, context).await;
    }
    let Some(request) = case.request.clone() else {
        return Outcome::Misfit("the plugin owns the whole request, and the case has none");
    };
    if case.outputs.is_some() {
        return Outcome::Misfit("outputs are for postprocessors: use models");
    }
    hook.handle(context, request).await.map_or_else(Outcome::Failed, Outcome::Answer)
}

/// The preprocessor if there is a request for it, then the postprocessor if there are
/// outputs for it.
async fn call_stages(hook: &dyn Hook, world: World, case: &Case, context: CallContext) -> Outcome {
    let mut carry = case.carry.clone();
    if world.has_preprocess()
        && let Some(request) = case.request.clone()
    {
        match hook.preprocess(context.clone(), request).await {
            Err(error) => return Outcome::Failed(error),
            Ok(Prepared::Answer(answer)) => return Outcome::Answer(answer),
            Ok(Prepared::Run { inputs, .. }) if case.outputs.is_none() => return Outcome::Inputs(inputs),
            Ok(Prepared::Run { carry: left, .. }) => carry = carry.or(Some(left)),
        }
    } else if !world.has_postprocess() {
        return Outcome::Misfit("the plugin is a preprocessor, and the case has no request");
    }
    if !world.has_postprocess() {
        return Outcome::Misfit("outputs are for postprocessors, and the plugin is a preprocessor");
    }
    let Some(outputs) = case.outputs.clone() else {
        return Outcome::Misfit("the plugin is a postprocessor, and the case has no outputs");
    };
    let carry = carry.unwrap_or_default();
    hook.postprocess(context, carry, outputs).await.map_or_else(Outcome::Failed, Outcome::Answer)
}

fn judge(outcome: Outcome, expect: Option<&Expect>, diff: &mut Diff) {
    match (outcome, expect) {
        (Outcome::Misfit(why), _) => diff.line(why.to_owned()),
        (Outcome::Failed(CallError::Failure(failure)), Some(Expect::Status(wanted))) => {
            if failure.status != *wanted {
                diff.line(format!("status: expected {wanted}, got {}: {}", failure.status, failure.message));
            }
        }
        (Outcome::Failed(CallError::Failure(failure)), _) => {
            diff.line(format!("the plugin refused the request with {}: {}", failure.status, failure.message));
        }
        (Outcome::Failed(error), _) => diff.line(error.to_string()),
        (Outcome::Inputs(_) | Outcome::Answer(_), None) => {}
        (Outcome::Inputs(got), Some(Expect::Inputs(wanted))) => compare::tensors("input", wanted, &got, diff),
        (Outcome::Inputs(_), Some(expect)) => {
            diff.line(format!("expected {}, got inputs for the model", words(expect)));
        }
        (Outcome::Answer(Answer::Tensors(got)), Some(Expect::Tensors(wanted))) => {
            compare::tensors("output", wanted, &got, diff);
        }
        (Outcome::Answer(Answer::Tensors(_)), Some(Expect::Status(200))) => {}
        (Outcome::Answer(Answer::Tensors(_)), Some(expect)) => {
            diff.line(format!("expected {}, got an answer of tensors", words(expect)));
        }
        (Outcome::Answer(Answer::Body(got)), Some(expect)) => judge_body(&got, expect, diff),
    }
}

/// Most bytes of a body that is compared. What is expected has at most
/// [`SAMPLES_BYTES_MAX`], so a body of twice the size is another one, and parsing it
/// would cost the gateway thirty times its bytes.
const BODY_BYTES_MAX: usize = 2 * SAMPLES_BYTES_MAX;

fn judge_body(got: &HttpAnswer, expect: &Expect, diff: &mut Diff) {
    if got.data.len() > BODY_BYTES_MAX && !matches!(expect, Expect::Status(_)) {
        diff.line(format!("expected {}, got one of {} bytes", words(expect), got.data.len()));
        return;
    }
    match expect {
        Expect::Status(wanted) if got.status != *wanted => {
            diff.line(format!("status: expected {wanted}, got {}", got.status));
        }
        Expect::Status(_) => {}
        Expect::Text(wanted) => compare::text(wanted, &got.data, diff),
        Expect::Json(wanted) => match serde_json::from_slice(&got.data) {
            Ok(value) => compare::json(wanted, &value, diff),
            Err(error) => diff.line(format!(
                "expected JSON, got {} ({error})",
                compare::shown_text(&String::from_utf8_lossy(&got.data))
            )),
        },
        Expect::Inputs(_) | Expect::Tensors(_) => {
            diff.line(format!("expected {}, got an answer of {}", words(expect), got.content_type));
        }
    }
}

/// What was expected, in a few words.
fn words(expect: &Expect) -> &'static str {
    match expect {
        Expect::Json(_) => "an answer in JSON",
        Expect::Text(_) => "an answer of text",
        Expect::Inputs(_) => "inputs for the model",
        Expect::Tensors(_) => "an answer of tensors",
        Expect::Status(_) => "a status",
    }
}
