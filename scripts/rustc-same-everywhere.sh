#!/usr/bin/env bash
# Runs rustc for build-guests.sh, so that the same source gives the same bytes in any
# folder. Cargo hashes a crate's path into its metadata if the crate lies outside the
# workspace, as the SDK does; metadata decides symbol names, and those the order of
# functions. Crates of this repository get metadata of their name and version instead.
set -euo pipefail
rustc=$1
shift
if [[ ${CARGO_MANIFEST_DIR:-} == "${SLUICE_ROOT:?set by build-guests.sh}"/* ]]; then
    arguments=()
    for argument in "$@"; do
        if [[ $argument == metadata=* ]]; then argument=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION; fi
        arguments+=("$argument")
    done
    set -- "${arguments[@]}"
fi
exec "$rustc" "$@"
