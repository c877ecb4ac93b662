# The commands, and what is left of them.

# Takes up what is installed, or says that nothing is.
need_installed() {
  if ! read_state || [ -z "$installed_version" ]; then
    [ "${interrupted-0}" = 0 ] || die "an installation was interrupted; $program install, rollback or uninstall undoes it"
    die "vgpu is not installed here ($state_dir is not there)"
  fi
  unit=$installed_unit cuda=$installed_cuda how=$installed_how into=$installed_into device=$installed_device version_id=$installed_version
}

cmd_verify() {
  while [ $# -gt 0 ]; do
    case $1 in
      --json) json=1 ;;
      *) bad_usage "verify does not know '$1'" ;;
    esac
    shift
  done
  need_root verify
  need_installed
  make_work
  checklist
  if [ "$interrupted" = 1 ]; then
    result FAIL record "an upgrade was interrupted: $program install completes it, $program rollback undoes it"
  fi
  if [ "$json" = 1 ]; then
    print_json
  elif [ "$failures" = 0 ]; then
    out "All is well."
  else
    say "failed: $failed_names. To take vgpu off this machine: $home/bin/$program uninstall"
  fi
  [ "$failures" = 0 ]
}

cmd_status() {
  [ $# = 0 ] || bad_usage "status takes no '$*'"
  need_installed
  out "version    $installed_version in $home/lib/$installed_version"
  out "service    $unit: $(show "$unit" ActiveState), since $(show "$unit" ActiveEnterTimestamp)"
  out "drop-in    /etc/systemd/system/$unit.d/vgpu.conf"
  [ "$how" != links ] || out "links      in $into"
  folder=$home/lib/$version_id
  tool=$R$folder/vgpu-check
  if ask_device; then
    out "vgpu       $answer"
    out "counters   $(counters_value commands) commands, $(counters_value launches) launches since the device started"
  else
    out "vgpu       does not answer: $answer"
  fi
  for pid in $(service_pids); do
    mapped=$(mapped_by "$pid" | join ' ')
    out "process    $pid $(process_name "$pid"): ${mapped:-maps no CUDA library}"
  done
}

cmd_logs() {
  lines=40
  while [ $# -gt 0 ]; do
    case $1 in
      -n) [ $# -ge 2 ] || bad_usage "-n takes a number"; lines=$2; shift ;;
      *) bad_usage "logs does not know '$1'" ;;
    esac
    shift
  done
  case $lines in *[!0-9]* | '') bad_usage "-n takes a number" ;; esac
  need_installed
  unit_journal | grep -i -E 'vgpu|cuda|gpu|inference compute|offload|library=|initial_count|ld\.so|preload|runner|error|fail' |
    tail -n "$lines"
}

cmd_emergency() {
  need_root emergency
  if [ -r "$R$rescue" ]; then
    exec sh "$R$rescue" "$@"
  fi
  emit_rescue | sh -s -- "$@"
}

main() {
  [ $# -gt 0 ] || { usage >&2; exit 2; }
  command=$1
  shift
  case $command in
    install) cmd_install "$@" ;;
    verify) cmd_verify "$@" ;;
    status) cmd_status "$@" ;;
    logs) cmd_logs "$@" ;;
    rollback) cmd_rollback "$@" ;;
    uninstall) cmd_uninstall "$@" ;;
    emergency) cmd_emergency "$@" ;;
    bundle) cmd_bundle "$@" ;;
    push) cmd_push "$@" ;;
    --version) out "$program $tool_version" ;;
    --help | -h | help) usage ;;
    *) bad_usage "unknown command '$command'" ;;
  esac
}

# Read as a whole before anything runs: the file may be replaced meanwhile.
main "$@"
exit
