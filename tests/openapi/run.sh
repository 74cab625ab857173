#!/usr/bin/env bash
# Runs schemathesis against a real process with its own /openapi.json: no answer may be a 5xx, have an undocumented
# status, or a body that does not fit its schema. Starts the process and ends it.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --locked
causeway=$PWD/target/debug/causeway

# The environment is made once for each state of the requirements.
needs=tests/openapi/requirements.txt
venv=target/venv-openapi-$(sha256sum $needs | cut -c 1-12)
if [ ! -x "$venv/bin/st" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement $needs
fi

scratch=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill "$pid" || true; wait "$pid" || true; fi; rm -r "$scratch"' EXIT

# With a tenant, so that the refusal of calls without a key is tested too.
"$causeway" tenant key >"$scratch/key" 2>&1
key=$(grep '^cw_' "$scratch/key")
{
  printf '[api]\nmax_wait = "1s"\nhold = "1s"\nping = "200ms"\n'
  printf '[bridge]\nwait = "500ms"\n[simulated]\ncall = "10ms"\n'
  printf '[[tenant]]\nid = "tester"\nadmin = true\n%s\n' "$(grep '^key_sha256' "$scratch/key")"
} >"$scratch/causeway.toml"

env -i "$causeway" up --bind 127.0.0.1:0 --config "$scratch/causeway.toml" >"$scratch/out" 2>"$scratch/err" &
pid=$!
for _ in $(seq 100); do
  url=$(awk '$1 == "serving" { print $2 }' "$scratch/out")
  if [ -n "$url" ]; then break; fi
  sleep 0.1
done
[ -n "$url" ] || { cat "$scratch/out" "$scratch/err" && exit 1; }

timeout 120 "$venv/bin/st" --config-file tests/openapi/schemathesis.toml run "$url/openapi.json" \
  --header "Authorization: Bearer $key" "$@" || { tail -20 "$scratch/err" && exit 1; }
