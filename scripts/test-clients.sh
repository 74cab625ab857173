#!/usr/bin/env bash
# Runs the tests of clients: SDKs and frameworks against a real Causeway.
#
#   scripts/test-clients.sh [NAME]       NAME picks tests
#   scripts/test-clients.sh --browser    the test with a browser only, which needs chromium (Debian's package)
#
# Needs python3 with venv, node 20 or newer with npm, and what `make test` needs. The SDKs are installed once,
# under target/clients, and again when the files that pin them change.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
  printf 'make test-clients: %s\n' "$1" >&2
  exit 1
}

for tool in python3 node npm; do
  command -v "$tool" >/dev/null || refuse "$tool is missing: the SDKs need Python 3.11 and node 20, or newer."
done
if [ "${1:-}" = --browser ]; then
  command -v "${CHROMIUM:-chromium}" >/dev/null ||
    refuse 'chromium is missing: install it (Debian has it in chromium), or name one in CHROMIUM.'
fi
scripts/install-test-needs.sh

source=tests/clients
target=${CARGO_TARGET_DIR:-target}
venv=$target/clients/venv
node=$target/clients/node
mkdir -p "$node"

# Installed last, the copy of what was asked for says that it is all there.
if ! cmp --silent "$source/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv" || refuse 'python3 cannot make a venv (Debian has it in python3-venv).'
  # All that is needed is listed; Evennia would bring a game along.
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$source/requirements.txt"
  cp "$source/requirements.txt" "$venv/requirements.txt"
fi
if ! cmp --silent "$source/node/package-lock.json" "$node/node_modules/package-lock.json"; then
  cp "$source"/node/package*.json "$source/node/.npmrc" "$node"
  (cd "$node" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp "$source/node/package-lock.json" "$node/node_modules/package-lock.json"
fi
# Node looks for packages beside and above a file: the tests run where these are.
rm -f "$node"/*.mjs
cp "$source"/node/*.mjs "$node"

# The same build as that of the other tests, so that nothing is built twice.
cargo nextest run --workspace --locked --no-run
exec "$venv/bin/python" "$source/run.py" "$target/debug/causeway" "$venv" "$node" "$@"
