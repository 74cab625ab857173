#!/usr/bin/env bash
# Installs what the tests need: cargo-nextest, which runs them, and a real redis-server, which they run
# against. Does nothing where both are there already.
set -euo pipefail

refuse() {
  printf 'make test: %s\n' "$1" >&2
  printf 'Install Redis 7.0 or newer (or Valkey 7.2 with its redis-server link) and run it again.\n' >&2
  exit 1
}

as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  else
    sudo --non-interactive "$@"
  fi
}

if ! command -v cargo-nextest >/dev/null; then
  printf 'make test: cargo-nextest is missing: building it, which takes some minutes\n' >&2
  cargo install --locked cargo-nextest >&2
fi

if ! command -v redis-server >/dev/null; then
  command -v apt-get >/dev/null ||
    refuse 'redis-server is missing, and there is no apt-get to install it with.'
  [[ $(id -u) == 0 ]] || sudo --non-interactive true 2>/dev/null ||
    refuse 'redis-server is missing, and only root may install it (sudo wants a password or is missing).'
  printf 'make test: redis-server is missing: installing it with apt-get\n' >&2
  # A package's own start-up must not leave a server behind: the tests start their own.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  { as_root apt-get update --quiet=2 && as_root apt-get install --quiet=2 --yes --no-install-recommends redis-server; } >&2 ||
    refuse 'apt-get could not install redis-server; what it said is above.'
fi

version=$(redis-server --version | sed -n 's/.*v=\([0-9]*\).*/\1/p')
[[ ${version:-0} -ge 7 ]] || refuse "redis-server is version ${version:-unknown}, which is too old."
