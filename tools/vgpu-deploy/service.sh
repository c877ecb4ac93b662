# The service: its drop-in, what its own restrictions mean for the libraries, its processes.

# PCI functions that may be a vGPU, as folders of sysfs.
vgpu_functions() {
  for function in "$R"/sys/bus/pci/devices/*; do
    [ -r "$function/vendor" ] || continue
    read -r vendor <"$function/vendor"
    read -r device_id <"$function/device"
    [ "$vendor:$device_id" != 0x1af4:0x1110 ] || out "$function"
  done
}

# Those whose memory firmware left unreachable: their attribute `enable`.
switched_off() {
  vgpu_functions | while read -r function; do
    function=$(cd "$function" && pwd -P)/enable
    [ ! -r "$function" ] || ! grep -q '^0' "$function" || out "${function#"$R"}"
  done
}

# The files of a vGPU that the libraries open.
resource_files() {
  vgpu_functions | while read -r function; do
    function=$(cd "$function" && pwd -P)
    for resource in "$function/resource0" "$function/resource2" "$function/resource2_wc"; do
      [ ! -e "$resource" ] || out "${resource#"$R"}"
    done
  done
}

# The number of the group that may use the device; nothing if there is none.
group_number() {
  {
    grep "^$group:" "$R/etc/group" ||
      { [ -z "$R" ] && command -v getent >/dev/null 2>&1 && getent group "$group"; }
  } | cut -d : -f 3
}

# setting NAME: what the service's environment holds, without what we put there.
setting() {
  set_to=
  for word in $(show "$unit" Environment | tr -d '"'); do
    case $word in "$1="*) set_to=${word#*=} ;; esac
  done
  out "$set_to" | tr ':' '\n' | grep -v "^$home/" | join ':'
}

# Folders in which the service's program keeps libraries of its own.
service_folders() {
  case $unit in
    ollama*)
      for folder in /usr/local/lib/ollama /usr/lib/ollama /usr/share/ollama/lib; do
        [ ! -d "$R$folder" ] || out "$folder"
      done
      ;;
  esac
}

# The folder with CUDA libraries of its own that the service's program looks into, for --how links; nothing if there
# is none. Of several CUDA generations, that which the service gets.
links_folder() {
  for folder in $(service_folders); do
    for generation in 12 13; do
      case $cuda in all | "$generation")
        if [ -d "$R$folder/cuda_v$generation" ]; then
          out "$folder/cuda_v$generation"
          return
        fi ;;
      esac
    done
  done
}

# The links of --how links, a name each: what a program of the service asks the loader for.
link_names() { for library in $(wanted_libraries "$cuda"); do soname_of "$library"; done; }

# join SEPARATOR: the lines of standard input in one.
join() { tr '\n' "$1" | sed "s/$1*\$//"; }

preload_list() {
  for library in $(wanted_libraries "$cuda"); do
    out "$home/lib/$version_id/$(soname_of "$library")"
  done | join ':'
}

write_dropin() {
  out "# Written by $program $tool_version for $unit alone; no other process loads vgpu's libraries."
  out "# To undo: $home/bin/$program uninstall, or from a console: sh $rescue"
  out "[Service]"
  before=$(setting LD_PRELOAD)
  [ "$how" != preload ] || out "Environment=\"LD_PRELOAD=$(preload_list)${before:+:$before}\""
  before=$(setting LD_LIBRARY_PATH)
  [ "$how" = links ] || out "Environment=\"LD_LIBRARY_PATH=$({
    out "$home/lib/$version_id"
    [ -n "$before" ] || service_folders
  } | join ':')${before:+:$before}\""
  [ -z "$device" ] || out "Environment=\"VGPU_DEVICE=$device\""
  out "SupplementaryGroups=$group"
  if hides_sysfs; then
    resource_files | while read -r resource; do out "ReadWritePaths=-$resource"; done
  fi
  [ -z "$(show "$unit" NoExecPaths)" ] || out "ExecPaths=$home"
}

# Whether the unit makes /sys read-only for its processes, who must write to the device's memory there.
hides_sysfs() {
  [ "$(show "$unit" ProtectKernelTunables)" = yes ] && return 0
  case " $(show "$unit" ReadOnlyPaths) " in
    *' /sys '* | *' / '* | *' /sys/'*) return 0 ;;
  esac
  return 1
}

# What the libraries ask of the kernel that a program might not.
needed_calls='mmap munmap openat close read fstat fstatfs fcntl futex clock_nanosleep getdents64 statx'

# Directives of the unit that keep the libraries from working and that a drop-in must not lift by itself: a line
# each, with the way out.
explain_restrictions() {
  for directive in RootDirectory RootImage; do
    value=$(show "$unit" "$directive")
    [ -z "$value" ] || out "$directive=$value: $home is not below it; bind it with BindReadOnlyPaths=$home, and /sys"
  done
  for directive in InaccessiblePaths TemporaryFileSystem; do
    for value in $(show "$unit" "$directive"); do
      case ${value%%:*} in
        / | /opt | /opt/vgpu | /sys | /sys/*)
          out "$directive=$value hides what the libraries need: take it out, or bind $home and /sys into it"
          ;;
      esac
    done
  done
  filter=$(show "$unit" SystemCallFilter)
  missing=
  case $filter in
    '') ;;
    '~'*)
      for name in $needed_calls; do
        case " ${filter#?} " in *" $name "*) missing="$missing $name" ;; esac
      done
      ;;
    *)
      for name in $needed_calls; do
        case " $filter " in *" $name "*) ;; *) missing="$missing $name" ;; esac
      done
      ;;
  esac
  [ -z "$missing" ] || out "SystemCallFilter= forbids$missing: add SystemCallFilter=$(out "$missing" | sed 's/^ //')"
  value=$(show "$unit" LimitAS)
  case $value in
    '' | infinity) ;;
    *[!0-9]*) ;;
    *) [ "${#value}" -gt 9 ] || out "LimitAS=$value is less than the device's memory window needs: raise it" ;;
  esac
  if [ -r "$R/sys/kernel/security/lockdown" ] && grep -q '\[\(integrity\|confidentiality\)\]' "$R/sys/kernel/security/lockdown"; then
    out "the kernel is locked down (Secure Boot): it lets no process map a PCI device"
  fi
}

# The processes of the service, by its control group.
service_pids() {
  cgroup=$(show "$unit" ControlGroup)
  [ -n "$cgroup" ] || return 0
  for tree in "$R/sys/fs/cgroup" "$R/sys/fs/cgroup/systemd" "$R/sys/fs/cgroup/unified"; do
    if [ -d "$tree$cgroup" ]; then
      find "$tree$cgroup" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -n | uniq
      return
    fi
  done
}

# in_cgroup PID: whether the process belongs to the service, whose group is $cgroup.
in_cgroup() {
  [ -n "$cgroup" ] && read_group=$(cat "$R/proc/$1/cgroup" 2>/dev/null) || return 1
  case $read_group$newline in *":$cgroup$newline"* | *":$cgroup/"*) return 0 ;; esac
  return 1
}

process_name() { cat "$R/proc/$1/comm" 2>/dev/null || out '?'; }

# Every CUDA library that process PID maps, a path each.
mapped_by() {
  sed -n 's|^[^/]*\(/.*\)$|\1|p' "$R/proc/$1/maps" 2>/dev/null |
    grep -E '/(libvgpu-[a-z]*|libvgpu-cud|libvgpu-cubl|libcuda|libcudart|libcublas|libcublasLt|libnvidia-ml)[A-Za-z0-9]*\.so[^/]*$' |
    sed 's/ (deleted)$//' | sort -u
}

# Processes that map a library of ours, whichever copy.
processes_with_ours() {
  grep -l -E "/libvgpu-[a-zA-Z0-9]+\.so|$home/" "$R"/proc/[0-9]*/maps 2>/dev/null |
    sed 's|/maps$||; s|.*/||' | sort -n
}

# wait_until SECONDS COMMAND...
wait_until() {
  deadline=$(($(date +%s) + ${VGPU_DEPLOY_WAIT-$1}))
  shift
  until "$@"; do
    [ "$(date +%s)" -lt "$deadline" ] || return 1
    sleep "${VGPU_DEPLOY_POLL-1}"
  done
}

is_running() { [ "$(show "$unit" ActiveState)" = active ]; }

# The journal of the service's present run. Without invocation ids (old systemd), of its last start on.
unit_journal() {
  invocation=$(show "$unit" InvocationID)
  if [ -n "$invocation" ]; then
    journalctl --no-pager -q -o cat "_SYSTEMD_INVOCATION_ID=$invocation" 2>/dev/null
  else
    journalctl --no-pager -q -o cat -u "$unit" --since "$(show "$unit" ExecMainStartTimestamp | cut -d ' ' -f 2,3)" 2>/dev/null
  fi
}
