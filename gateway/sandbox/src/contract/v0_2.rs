//! `sluice:plugin@0.2`, the latest: nothing to convert, and the capabilities link it.
#![expect(clippy::useless_conversion, reason = "the latest version's types are the ones converted into")]

super::hooks::exports!(v0_2);
