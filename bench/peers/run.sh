#!/usr/bin/env bash
# Causeway's queue beside BullMQ and redis-benchmark, on one redis-server in one run; writes RESULTS.md
# beside this file. Flags go to run.py: --jobs 50000 --rounds 3 --out FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/peers"
cp bench/peers/package.json bench/peers/bullmq.mjs "$target/peers/"
npm install --prefix "$target/peers" --no-audit --no-fund --loglevel=error
exec python3 bench/peers/run.py --causeway "$target/release/causeway" --bullmq "$target/peers/bullmq.mjs" "$@"
