#!/usr/bin/env bash
# Fetches Triton, unless it is here.
set -euo pipefail
"$(dirname "$0")/../../../scripts/setup-triton.sh" tritonserver >/dev/null
