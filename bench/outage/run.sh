#!/usr/bin/env bash
# What becomes of 1,000 waiting and 100 running jobs while their model is away; writes RESULTS.md beside this
# file. Flags go to run.py: --seconds 20 180 --only refused,dns,… --stores embedded,redis --out FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
exec python3 bench/outage/run.py --causeway "${CARGO_TARGET_DIR:-target}/release/causeway" "$@"
