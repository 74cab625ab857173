#!/usr/bin/env bash
# Replaces two API processes and two workers under load, and counts what clients notice; writes RESULTS.md beside this
# file. Needs python3 with venv. Flags go to run.py: --drain 15 --jobs 40 --calls 20 --streams 20 --out FILE
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked
python3 -m venv "$target/bench-venv"
"$target/bench-venv/bin/pip" install --quiet 'openai>=2,<3' 'aiohttp>=3.12,<4'
exec "$target/bench-venv/bin/python" bench/deploy/run.py --causeway "$target/release/causeway" "$@"
