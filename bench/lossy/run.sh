#!/usr/bin/env bash
# Silent calls over a network that loses packets, in network namespaces of its own; writes RESULTS.md beside
# this file. Needs root and iproute2. Flags go to run.py: --calls 400 --silence 100 --before OLD_BINARY
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
exec python3 bench/lossy/run.py --causeway "${CARGO_TARGET_DIR:-target}/release/causeway" "$@"
