# scripts/demo --vm: the client in a virtual machine, on the vGPU and on the machine's own processors, beside the client
# on the host alone. To be sourced after scripts/lib.sh; the client and its model are there and vgpu is built.
# shellcheck shell=bash disable=SC2154

# generation LOG N: the N-th figure of tokens per second in what the clients said.
generation() { sed -nE 's/^prompt: .*generation: .* s, ([0-9.]+) tokens\/s.*/\1/p' "$1" | sed -n "$2p"; }

# demo_vm DEVICE_KIND PROMPT: `client` is the client's command.
demo_vm() {
  local kind=$1 prompt=$2 folder
  folder=$(mktemp -d "${TMPDIR:-/tmp}/vgpu-demo.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf -- '$folder'" EXIT
  say "== in a virtual machine, on the vGPU; then, for comparison, on the virtual machine's own processors"
  # The second run sees nothing of vgpu. Fewer tokens: a machine without hardware virtualisation is slow there.
  # shellcheck disable=SC2016
  "$root/scripts/vm" --device "$kind" --cuda 12 --memory 3G --timeout 900 --folder "$folder/vm" -- bash -c '
      prompt=$1
      shift
      "$@" -- "$prompt" || exit
      unset LD_PRELOAD LD_LIBRARY_PATH
      "$@" --cpu --max-tokens 4 -- "$prompt"' _ "$prompt" "${client[@]}" \
    2> >(tee "$folder/guest" >&2) || die "the client did not end well in the virtual machine"
  say
  say "== on the host alone, on the vGPU"
  "$root/build/release/tools/vgpu-device/vgpu-device" run --cuda 12 -- "${client[@]}" -- "$prompt" \
    2> >(tee "$folder/host" >&2) || die "the client did not end well on the host"
  say
  say "generation, tokens per second:"
  say "$(printf '  %-42s %8s' "in the guest, on the vGPU ($kind)" "$(generation "$folder/guest" 1)")"
  say "$(printf '  %-42s %8s' "on the host alone, on the vGPU" "$(generation "$folder/host" 1)")"
  say "$(printf '  %-42s %8s' "in the guest, on its own processors" "$(generation "$folder/guest" 2)")"
  say "what the device counted for the guest: $(sed -nE 's/.*: vgpu: ([0-9]+ launches.*)/\1/p' "$folder/vm/device.log" | tail -n 1)"
}
