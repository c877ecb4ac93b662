# verify: the whole checklist.

failed_units() { systemctl list-units --failed --no-legend --plain 2>/dev/null | awk '{print $1}' | sort; }

# The service has been running for a while, under one process.
is_settled() {
  is_running || return 1
  settled_pid=$(show "$unit" MainPID)
  # Until it runs its program, the process is systemd's, with the program's name in parentheses.
  case $(process_name "$settled_pid") in '('*) return 1 ;; esac
  [ "$settled_pid" = "${last_pid-}" ] && return 0
  last_pid=$settled_pid
  return 1
}

checklist() {
  folder=$home/lib/$version_id
  dropin=/etc/systemd/system/$unit.d/vgpu.conf
  tool=$R$folder/vgpu-check
  verify_files
  if [ "$how" = links ]; then verify_links; fi
  verify_access
  if is_running; then
    verify_processes
  elif [ "${service_before-active}" = active ]; then
    result FAIL service "$unit is $(show "$unit" ActiveState): journalctl -u $unit"
  else
    result skip service "$unit was not running before, and was not started"
  fi
  verify_others
  result_lines preload "$(check_preload)" "/etc/ld.so.preload names no CUDA library"
  result_lines stale "$(find_stale)" "no other copy where the loader looks"
  verify_logins
  verify_system
  verify_device
  if is_running; then verify_use; fi
}

verify_files() {
  if ! check_sums "$R$folder"; then
    result FAIL libraries "$folder differs from its SHA256SUMS: install again"
  else
    result_lines libraries "$(check_libraries "$R$folder")" "version $(version_of "$R$folder/libvgpu-cuda.so"), whole, need glibc alone"
  fi
  if [ ! -f "$R$dropin" ]; then
    result FAIL drop-in "$dropin is missing: install again"
    return
  fi
  recorded=$(grep "^put$tab$dropin$tab" "$R$state_dir/manifest" | tail -n 1 | cut -f 3)
  complaint=
  if command -v systemd-analyze >/dev/null 2>&1; then
    complaint=$(systemd-analyze verify "$unit" 2>&1 | grep -F vgpu.conf | head -n 1)
  fi
  case " $(show "$unit" DropInPaths) " in
    *" $dropin "*) ;;
    *) complaint="systemd does not read $dropin: systemctl daemon-reload" ;;
  esac
  [ "$(show "$unit" NeedDaemonReload)" != yes ] || complaint="systemd has not read the newest files: systemctl daemon-reload"
  if [ -n "$complaint" ]; then
    result FAIL drop-in "$complaint"
  elif [ -n "$recorded" ] && ! same_bytes "$R$dropin" "$R$state_dir/saved/$recorded.left"; then
    result warn drop-in "$dropin was edited after the installation"
  else
    result ok drop-in "$dropin is in place, and systemd reads it"
  fi
}

verify_links() {
  elsewhere=
  for name in current $(link_names); do
    link=$into/$name target=$home/current/$name
    [ "$name" != current ] || link=$home/current target=lib/$version_id
    leads_to "$link" "$target" || elsewhere="${elsewhere}$link does not lead to $target: did an update of ${unit%.service} replace it? uninstall, then install again$newline"
  done
  result_lines links "$elsewhere" "$into leads to $home/lib/$version_id"
}

verify_access() {
  resources=$(resource_files)
  if [ -z "$resources" ]; then
    result skip access "no PCI device here"
    return
  fi
  closed=
  for resource in $resources; do
    [ "$(stat -c %g:%a "$R$resource")" = "$(group_number):660" ] || closed="$closed$resource is $(stat -c %U:%G:%a "$R$resource"), not group $group, mode 660$newline"
  done
  result_lines access "$closed" "the vGPU's memory is for group $group, mode 0660"
}

verify_processes() {
  pids=$(service_pids)
  main=$(show "$unit" MainPID)
  case "$newline$pids$newline" in
    *"$newline$main$newline"*) ;;
    *) pids=$main$newline$pids ;;
  esac
  wrong='' with=0 all=0 copies=''
  for pid in $pids; do
    [ -d "$R/proc/$pid" ] || continue
    all=$((all + 1))
    mapped=$(mapped_by "$pid")
    ours=$(out "$mapped" | grep -c "^$folder/")
    foreign=$(out "$mapped" | grep -v "^$folder/" | grep -v '^$' | join ' ')
    [ "$ours" = 0 ] || with=$((with + 1))
    if [ -n "$foreign" ]; then
      wrong="${wrong}process $pid ($(process_name "$pid")) maps $foreign, another copy than $folder$newline"
    fi
    copies="$copies$(out "$mapped" | grep "^$folder/")$newline"
  done
  if [ "$how" = preload ] && ! mapped_by "$main" | grep -q "^$folder/"; then
    wrong="${wrong}process $main, the main one of $unit, maps no library of $folder: $(why_not_loaded "$main")$newline"
  fi
  result_lines processes "$wrong" "$unit: $with of $all processes map $(out "$copies" | grep . | sort -u | wc -l | tr -d ' ') libraries, all from $folder"
}

# Why a process that should preload the libraries does not.
why_not_loaded() {
  reason=$(explain_restrictions | head -n 1)
  if [ -n "$reason" ]; then
    out "$reason"
  elif [ -r "$R/proc/$1/environ" ] && ! tr '\000' '\n' <"$R/proc/$1/environ" | grep -q "^LD_PRELOAD=.*$folder/"; then
    out "its environment has another LD_PRELOAD: an EnvironmentFile or a later drop-in sets it (systemctl cat $unit)"
  else
    out "is its program linked statically, or set-uid?"
  fi
}

verify_others() {
  others='' looked=0
  cgroup=$(show "$unit" ControlGroup)
  for pid in $(processes_with_ours); do
    # Asked one by one: the service may start and end processes all the time.
    [ -d "$R/proc/$pid" ] && ! in_cgroup "$pid" || continue
    name=$(process_name "$pid")
    [ ! -d "$R/proc/$pid" ] || others="${others}process $pid ($name) maps vgpu's libraries, and is not part of $unit$newline"
  done
  for pid in "$R"/proc/[0-9]*; do [ ! -d "$pid" ] || looked=$((looked + 1)); done
  named="PID 1 ($(process_name 1))"
  for name in sshd systemd-journal; do
    grep -q "^$name" "$R"/proc/[0-9]*/comm 2>/dev/null && named="$named, $name"
  done
  result_lines others "$others" "$named and every other one of $looked processes map none of them"
}

verify_logins() {
  if timeout 120 su -l root -c true >/dev/null 2>&1 </dev/null; then
    result ok login "a new login shell starts and ends"
  elif timeout 120 sh -lc true >/dev/null 2>&1 </dev/null; then
    result ok login "a new login shell starts and ends (su is not to be used here)"
  else
    result FAIL login "a new login shell fails: $(timeout 120 sh -lc true 2>&1 | head -n 1)"
  fi
  if ! grep -q '^sshd' "$R"/proc/[0-9]*/comm 2>/dev/null; then
    result skip ssh "no sshd runs here"
    return
  fi
  port=$(sshd -T 2>/dev/null | awk '$1 == "port" {print $2; exit}')
  port=${port:-22}
  if command -v ssh >/dev/null 2>&1; then
    answer=$(timeout 120 ssh -p "$port" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
      -o PreferredAuthentications=none -o ConnectTimeout=60 vgpu-verify@127.0.0.1 true 2>&1 </dev/null)
    case $answer in
      *'ermission denied'*) answer='a handshake goes as far as the question who it is' ;;
      *) answer="FAIL $answer" ;;
    esac
  elif command -v bash >/dev/null 2>&1; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    answer=$(timeout 120 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" && read -r -t 100 banner <&3 && printf %s "$banner"' "$port" 2>&1)
    case $answer in SSH-*) ;; *) answer="FAIL $answer" ;; esac
  else
    result skip ssh "neither ssh nor bash is here to try a connection"
    return
  fi
  case $answer in
    FAIL*) result FAIL ssh "sshd on port $port does not answer: $(out "${answer#FAIL }" | tail -n 1)" ;;
    *) result ok ssh "port $port: $answer" ;;
  esac
}

verify_system() {
  now=$(systemctl is-system-running 2>/dev/null)
  before='' fresh=''
  if [ -f "$R$state_dir/baseline" ]; then
    before=$(head -n 1 "$R$state_dir/baseline")
    for failed in $(failed_units); do
      grep -qxF "$failed" "$R$state_dir/baseline" || fresh="$fresh $failed"
    done
  fi
  if [ -n "$fresh" ]; then
    result FAIL system "failed since the installation:$fresh (systemctl status NAME)"
    return
  fi
  # degraded: units have failed, and those are known; starting: the machine has just booted.
  case $now in
    running | degraded | initializing | starting | "$before")
      result ok system "$now, before the installation: ${before:-not recorded}; no unit has failed since" ;;
    *) result FAIL system "${now:-unknown}, before the installation: ${before:-not recorded} (systemctl is-system-running)" ;;
  esac
}

verify_device() {
  if ask_device; then
    result ok vgpu "$answer"
  else
    result FAIL vgpu "it does not answer: $answer. Is vgpu-device running on the host?"
  fi
}

# ask_device: has our own program compute on it, and says in $answer what that said. Its launch is remembered in
# `looks`, a line each, so that those of others can be told from it.
ask_device() {
  answer=$(VGPU_DEVICE=$device timeout 120 "$tool" device "$R$folder/libcuda.so.1" 2>&1) || return 1
  [ ! -w "$R$state_dir/looks" ] || out "$(counters_value generation)" >>"$R$state_dir/looks"
}

# From here on launches are counted: the first line of `looks` is the device's start and its launches so far.
start_counting() { out "$(counters_value generation) $(counters_value launches)" >"$R$state_dir/looks" || :; }

# Launches since then that were not ours. A device that was started anew counts from none.
others_launches() {
  generation=$(counters_value generation) now=$(counters_value launches)
  [ -n "$generation" ] && [ -n "$now" ] && [ -r "$R$state_dir/looks" ] || { out 0; return; }
  while read -r look_generation look_launches; do
    [ "$look_generation" = "$generation" ] && now=$((now - ${look_launches:-1}))
  done <"$R$state_dir/looks"
  out "$now"
}

# What the device says: counters_value NAME.
counters_value() { VGPU_DEVICE=$device timeout 60 "$tool" counters 2>/dev/null | sed -n "s/^$1 //p"; }

# Whether a process of the service holds a channel of the device.
service_owns_channel() {
  pids=" $(service_pids | tr '\n' ' ') "
  for owner in $(counters_value owner | cut -d ' ' -f 1); do
    case $pids in *" $owner "*) return 0 ;; esac
  done
  return 1
}

# A client that is over by now, or between two runs, has left its launches.
is_used() {
  use=
  if service_owns_channel; then
    use="a process of $unit has the device open; $(counters_value launches) launches so far"
  elif launches=$(others_launches) && [ "$launches" -gt 0 ]; then
    use="$launches launches since the installation, those of $program not counted"
  fi
  [ -n "$use" ]
}

verify_use() {
  case $unit in
    ollama*) verify_ollama ;;
    *)
      if wait_until 20 is_used; then
        result ok use "$use"
      else
        result warn use "$unit has not called CUDA yet; when it should have, run verify again"
      fi
      ;;
  esac
}
