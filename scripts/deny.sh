#!/usr/bin/env bash
# Licences, sources and duplicates with cargo-deny. Advisories need its database,
# which is fetched only where the network allows it: the nightly job.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null; then
    echo "deny: cargo-deny is not installed (cargo install cargo-deny --locked): duplicates are still checked by the tidy test"
    exit 0
fi
cargo deny --offline check bans licenses sources
