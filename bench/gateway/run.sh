#!/usr/bin/env bash
# What a chat call costs on its way through Causeway, and ten thousand streams at once; writes RESULTS.md
# beside this file. Flags go to run.py: --seconds 20 --clients 1000 --only paced,saturated,streams --out FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --release --locked
exec python3 bench/gateway/run.py --causeway "${CARGO_TARGET_DIR:-target}/release/causeway" "$@"
