//! What to do about an error, by its reason code.

/// Every code that a remote command can meet, with what helps.
const HINTS: [(&str, &str); 19] = [
    (
        "unauthenticated",
        "put your token into SLUICE_TOKEN or a file for --token-file; an operator makes one with `sluice token new`",
    ),
    (
        "forbidden",
        "your token is for other plugins or has not the scope: deploying needs plugins:deploy and the plugin's owner",
    ),
    ("not_found", "`sluice plugin ls` lists the plugins, `sluice plugin show NAME` the versions"),
    ("digest_conflict", "a version never changes: push the new component with another --version"),
    ("in_use", "activate another version first, or take it out of the pipelines' splits and shadows"),
    (
        "too_large",
        "strip the component (`strip = true` in the release profile), or ask the operator for a larger sandbox.plugin_bytes_max (33554432 is enough for Python with its interpreter)",
    ),
    ("not_wasm", "push the .wasm file that the build wrote: target/wasm32-unknown-unknown/release/NAME.wasm"),
    (
        "not_component",
        "build with the linker wasm-component-ld, as the template of `sluice plugin new` does, or for wasm32-wasip2",
    ),
    (
        "wrong_world",
        "`sluice plugin inspect FILE` shows what it exports; one export_…! line of the SDK makes a world",
    ),
    (
        "forbidden_import",
        "`sluice plugin inspect FILE` says what each import is and how the operator grants it",
    ),
    ("plugin_limits", "let the component start with less memory, or ask the operator for more memory_bytes"),
    (
        "compile_limit",
        "the component takes too long to compile: build it in release mode and split giant functions",
    ),
    (
        "invalid_component",
        "the component uses a WebAssembly feature that is off, or is damaged: build it again with a released toolchain",
    ),
    (
        "canary_failed",
        "`sluice plugin test FILE --config JSON` runs the same cases on your machine; the gateway runs them with its own config for the plugin",
    ),
    (
        "bad_signature",
        "sign this very file: `sluice plugin push --sign KEY`, with a key that the operator trusts for this owner",
    ),
    ("tenant_limit", "you have more uploads under way than is allowed: try again when they are done"),
    ("storage_full", "the gateway's disk is full: the operator has to make room or retire versions"),
    ("no_state", "uploads need a [state] dir in the gateway's configuration"),
    ("overloaded", "try again in a moment"),
];

/// What helps against an error with this reason code.
pub(super) fn hint(code: &str) -> Option<&'static str> {
    HINTS.iter().find(|(known, _)| *known == code).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, UploadRefusal};
    use crate::wire_error::wire_error;

    #[test]
    fn every_refusal_of_an_upload_has_a_hint() {
        use UploadRefusal::{
            BadSignature, CanaryFailed, CompileLimit, ForbiddenImport, Invalid, Limits, NotComponent,
            NotWasm, WrongWorld,
        };
        let refusals = [
            NotWasm,
            NotComponent,
            WrongWorld,
            ForbiddenImport,
            Limits,
            CompileLimit,
            Invalid,
            CanaryFailed,
            BadSignature,
        ];
        let kinds = refusals.map(Kind::UploadRefused).into_iter();
        let others = [
            Kind::Unauthenticated,
            Kind::Forbidden,
            Kind::DigestConflict,
            Kind::InUse,
            Kind::TooLarge,
            Kind::NotFound,
            Kind::StorageFull,
            Kind::TenantLimit,
        ];
        for kind in kinds.chain(others) {
            let code = wire_error(kind).code;
            assert!(hint(code).is_some(), "{code}");
        }
    }
}
