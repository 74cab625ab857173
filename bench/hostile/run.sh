#!/usr/bin/env bash
# Hostile load on one API process: idle and dribbling connections, maximal bodies, made-up ids; writes RESULTS.md beside
# this file. Needs a hard limit of 25,000 open files. Flags go to run.py: --idle 10000 --ids 1000000 --out FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
ulimit -n "$(ulimit -Hn)"
exec python3 bench/hostile/run.py --causeway "${CARGO_TARGET_DIR:-target}/release/causeway" "$@"
