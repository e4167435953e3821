//! `sluice verify-plugin`: the child that checks and compiles a component. Not for people.

use std::process::ExitCode;

pub(super) use crate::catalog::verify::ChildArguments;

pub(super) fn verify_plugin(arguments: &ChildArguments) -> ExitCode {
    crate::catalog::verify::run_child(arguments)
}
