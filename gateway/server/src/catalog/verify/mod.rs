//! Components from strangers are checked and compiled in a process of their own: the
//! same program, started with the hidden sub-command `verify-plugin`.
//!
//! A component can make the compiler slow, hungry or crash, and only the kernel can stop
//! that. So [`Verifier`] starts a child for each component ([`parent`]), the child gives
//! up everything but its processor time and its memory ([`jail`]), reads the component,
//! and answers with facts and native code ([`child`], [`frame`]). The gateway runs that
//! code later: the child is trusted with what it answers, and has nothing to be attacked
//! with but the component, which it parses and compiles and never runs.

mod child;
mod frame;
mod jail;
mod parent;
mod queue;
mod refused;

pub use child::{ChildArguments, run as run_child};
pub use parent::{Verifier, VerifierOptions, VerifyError};
pub(in crate::catalog) use queue::Queue;
pub use queue::Whose;

pub use sluice_sandbox::{ComponentFacts, LoadError, Verified, VerifyLimits};

use crate::error::{Error, Kind, UploadRefusal};

/// What a caller is told when a component was not loaded.
pub fn load_error(error: &LoadError) -> Error {
    let refusal = match error {
        LoadError::NotWasm(_) => UploadRefusal::NotWasm,
        LoadError::NotComponent(_) => UploadRefusal::NotComponent,
        LoadError::World(_) => UploadRefusal::WrongWorld,
        LoadError::ForbiddenImport { .. } => UploadRefusal::ForbiddenImport,
        LoadError::Limits(_) => UploadRefusal::Limits,
        LoadError::CompileLimit(_) => UploadRefusal::CompileLimit,
        LoadError::Invalid(_) => UploadRefusal::Invalid,
        LoadError::Init(why) => {
            let message = format!("plugin could not be started: {}", without_backtrace(why));
            return Error::new(Kind::UploadRefused(UploadRefusal::CanaryFailed), message)
                .with_detail(error.to_string());
        }
        LoadError::NotCompiled | LoadError::Io(_) => {
            return Error::new(Kind::Internal, "the plugin could not be loaded")
                .with_detail(error.to_string());
        }
    };
    Error::new(Kind::UploadRefused(refusal), error.to_string())
}

/// What happened, without where: a backtrace is for the log, and for the author's own machine.
fn without_backtrace(why: &str) -> String {
    let Some((before, after)) = why.split_once("error while executing at wasm backtrace") else {
        return why.to_owned();
    };
    let cause = after.rsplit_once("Caused by:").map_or("", |(_, cause)| cause);
    format!("{before}{}", cause.trim_matches([' ', ';', '\n']))
}

/// What a caller is told when a component was not verified.
pub fn verify_error(error: VerifyError) -> Error {
    match error {
        VerifyError::Refused(refusal) => load_error(&refusal),
        VerifyError::Limit { message, detail } => {
            load_error(&LoadError::CompileLimit(message.to_owned())).with_detail(detail)
        }
        VerifyError::Busy => Error::new(Kind::TenantLimit, "too many components wait to be verified"),
        VerifyError::Slow => {
            Error::new(Kind::Overloaded, "the gateway was too busy to verify the component in time")
        }
        VerifyError::Failed(detail) => {
            Error::new(Kind::Internal, "the component could not be verified").with_detail(detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_reason_code() {
        let text = String::new;
        let refusals = [
            (LoadError::NotWasm(text()), "not_wasm"),
            (LoadError::NotComponent(text()), "not_component"),
            (LoadError::World(text()), "wrong_world"),
            (LoadError::ForbiddenImport { name: text(), why: text() }, "forbidden_import"),
            (LoadError::Limits(text()), "plugin_limits"),
            (LoadError::CompileLimit(text()), "compile_limit"),
            (LoadError::Invalid(text()), "invalid_component"),
            (LoadError::Init(text()), "canary_failed"),
        ];
        for (refusal, code) in refusals {
            let Kind::UploadRefused(reason) = load_error(&refusal).kind() else { panic!("{refusal:?}") };
            assert_eq!(reason.code(), code);
        }
    }

    #[test]
    fn what_is_the_gateway_s_fault_says_nothing_of_the_host() {
        let error = load_error(&LoadError::Io("/var/lib/sluice: denied".to_owned()));
        assert_eq!(error.kind(), Kind::Internal);
        assert!(!error.message().contains('/'), "{}", error.message());
        assert!(error.detail().is_some_and(|detail| detail.contains("/var/lib/sluice")));
    }

    #[test]
    fn an_uploader_is_told_why_a_plugin_does_not_start_and_not_where() {
        let trap = "plugin trapped: error while executing at wasm backtrace:;     0: 0x417 - <unknown>!start; ; \
            Caused by:;     wasm trap: wasm `unreachable` instruction executed; ";
        let error = load_error(&LoadError::Init(trap.to_owned()));
        let told =
            "plugin could not be started: plugin trapped: wasm trap: wasm `unreachable` instruction executed";
        assert_eq!(error.message(), told);
        assert!(error.detail().is_some_and(|detail| detail.contains("0x417")));
        let refused = load_error(&LoadError::Init("factor is missing".to_owned()));
        assert_eq!(refused.message(), "plugin could not be started: factor is missing");
    }
}
