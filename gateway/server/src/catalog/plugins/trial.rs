//! A version's own sample cases, run once before it may serve.

use std::fmt::Write as _;
use std::sync::Arc;

use sluice_sandbox::CallContext;
use tokio::time::Instant;

use super::super::LoadedPlugin;
use super::super::samples::{self, Case, CaseModels, Verdict};
use super::super::verify;
use crate::error::{Error, Kind, Result, UploadRefusal};
use crate::pipeline::Call;

/// Failed cases that the answer tells of. Three show what is wrong.
const TOLD_MAX: usize = 3;

/// Runs the sample cases that a component carries, under the limits of its plugin and with
/// the models' answers that they give. Gives how many there were.
///
/// # Errors
/// 422 `canary_failed` with what differed.
pub(super) async fn run(plugin: &LoadedPlugin, models: &CaseModels, component: &[u8]) -> Result<usize> {
    let section = sluice_sandbox::verify::custom_section(component, sluice_sandbox::verify::SAMPLES_SECTION)
        .map_err(|error| verify::load_error(&error))?;
    let Some(section) = section else { return Ok(0) };
    let cases = samples::parse(section).map_err(|error| refused(format!("sample cases: {error}")))?;
    let Some(info) = plugin.info() else { return Ok(0) };
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        models.serve(case);
        let verdict = samples::run(&*plugin.hook, info.world, case, context(plugin, case, number)).await;
        if !verdict.passed() {
            failed.push(verdict);
        }
    }
    models.stand_aside();
    if failed.is_empty() { Ok(cases.len()) } else { Err(refused(tell(&failed, cases.len()))) }
}

fn context(plugin: &LoadedPlugin, case: &Case, number: usize) -> CallContext {
    let time = plugin.config.call_timeout.saturating_mul(2) + plugin.config.init_timeout;
    let call = Call::new(format!("sample-{number}").into(), Instant::now() + time);
    Call { key: Arc::from(case.name.as_str()), ..call }.alone(plugin)
}

fn tell(failed: &[Verdict], all: usize) -> String {
    let mut text = format!("{} of {all} sample cases failed", failed.len());
    for verdict in failed.iter().take(TOLD_MAX) {
        let _ = write!(text, "; {}", verdict.summary());
    }
    text
}

fn refused(message: String) -> Error {
    Error::new(Kind::UploadRefused(UploadRefusal::CanaryFailed), message)
}
