//! `sluice:plugin@0.3`, the latest: nothing to convert, and the capabilities link it.

super::hooks::exports!(v0_3);
