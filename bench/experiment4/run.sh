#!/usr/bin/env bash
# Experiment 4: the baselines and Causeway side by side; writes RESULTS.md and comparison.svg beside
# this file. Flags go to run.py: --users 10,100 --only threads-1024,embedded --out DIR
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
exec python3 bench/experiment4/run.py --causeway "${CARGO_TARGET_DIR:-target}/release/causeway" "$@"
