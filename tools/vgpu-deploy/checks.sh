# What must be so before anything is changed.

check_machine() {
  if [ "$(uname -m)" = x86_64 ]; then
    result ok processor x86_64
  else
    result FAIL processor "this machine is $(uname -m); the libraries are for x86_64"
  fi
  missing=
  for tool in awk base64 cmp cp cut find grep head mktemp mv od sed sha256sum sort tail timeout touch tr wc; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
  done
  [ -z "$missing" ] || result FAIL commands "not on PATH:$missing"
  if [ -d "$R/run/systemd/system" ] && command -v systemctl >/dev/null 2>&1; then
    result ok systemd "$(systemctl --version 2>/dev/null | head -n 1)"
  else
    result FAIL systemd "systemd does not run this machine (no /run/systemd/system): a drop-in would have no effect. \
For one program, without installing anything: vgpu-device run -- PROGRAM"
  fi
}

check_glibc() {
  have=$(getconf GNU_LIBC_VERSION 2>/dev/null)
  needed=$(glibc_needed "$source_dir"/libvgpu-*.so)
  case $have in
    'glibc 2.'*)
      have=${have#glibc 2.}
      if [ "${have%%.*}" -ge "${needed:-0}" ]; then
        result ok glibc "2.$have; the libraries need 2.$needed"
      else
        result FAIL glibc "this machine has 2.$have; the libraries were built for 2.$needed or newer: build them on a \
distribution as old as this one"
      fi
      ;;
    *) result FAIL glibc "this machine's C library is not glibc" ;;
  esac
}

check_source() {
  if [ -f "$source_dir/SHA256SUMS" ] && ! check_sums "$source_dir"; then
    result FAIL libraries "$source_dir differs from its SHA256SUMS: fetch or copy it again"
    return
  fi
  result_lines libraries "$(check_libraries "$source_dir")" \
    "$source_dir, version $(version_of "$source_dir/libvgpu-cuda.so"), need glibc alone"
}

check_driver() {
  if [ -e "$R/proc/driver/nvidia/version" ] || [ -d "$R/sys/module/nvidia" ]; then
    result FAIL driver "NVIDIA's own driver is loaded: its libraries and these would take each other's place. \
Remove it, or leave this machine as it is"
  else
    result ok driver "no other CUDA driver is in use"
  fi
}

check_service_present() {
  case $(show "$unit" LoadState) in
    loaded) result ok service "$unit is $(show "$unit" ActiveState)" ;;
    masked) result FAIL service "$unit is masked: systemctl unmask $unit" ;;
    *) result FAIL service "there is no $unit: install it first, or name another with --service" ;;
  esac
}

# nearest_folder PATH: PATH, or the nearest folder above it that exists; nothing for the root.
nearest_folder() {
  nearest=$1
  while [ -n "$nearest" ] && [ ! -d "$R$nearest" ]; do nearest=${nearest%/*}; done
  out "$nearest"
}

check_space() {
  kilobytes=$((($(wc -c <"$source_dir/libvgpu-cuda.so") * 4 + 4194304) / 1024))
  for folder in /opt /var/lib /etc; do
    where=$(nearest_folder "$folder")
    free=$(df -Pk "$R$where/" 2>/dev/null | awk 'NR == 2 {print $4}')
    if [ "${free:-0}" -lt "$kilobytes" ]; then
      result FAIL space "$folder has $((${free:-0} / 1024)) MB free; this needs $((kilobytes / 1024 + 1)) MB"
      return
    fi
  done
  result ok space "enough in /opt, /var/lib and /etc"
}

check_writable() {
  for folder in /etc /etc/systemd/system /opt /var/lib /usr/local/sbin; do
    where=$(nearest_folder "$folder")
    if [ ! -w "$R${where:-/}" ]; then
      result FAIL writable "$folder cannot be written: is its file system mounted read-only?"
      return
    fi
  done
  if [ -e "$R$rescue" ] && ! grep -q "$program" "$R$rescue"; then
    result FAIL writable "$rescue exists and is not ours: move it away"
    return
  fi
  result ok writable "/etc, /opt, /var/lib, /usr/local/sbin"
}

# A device that answers, by a program of ours that computes on it.
check_device() {
  functions=$(vgpu_functions | sed 's|.*/||' | join ' ')
  if [ -z "$functions" ] && [ -z "$device" ]; then
    result FAIL vgpu "no vGPU: no PCI device 1af4:1110 in /sys/bus/pci/devices. Give the VM one (docs/vm.md)"
  elif answer=$(VGPU_DEVICE=$device timeout 120 "$helper" device "$source_dir/libcuda.so.1" 2>&1); then
    result ok vgpu "${device:-$functions}: $answer"
  elif [ -n "$(switched_off)" ]; then
    result warn vgpu "$functions is switched off; the udev rule switches it on, and the checklist asks it then"
  else
    result FAIL vgpu "${device:-$functions} does not answer: $answer. Is vgpu-device running on the host?"
  fi
}

# everything_fits: all of the above; the caller looks at $failures.
preflight() {
  check_machine
  check_glibc
  check_source
  check_driver
  check_service_present
  result_lines stale "$(find_stale)" "no older copy where the loader looks"
  result_lines preload "$(check_preload)" "no system-wide preload of a CUDA library"
  check_space
  check_writable
  check_device
  restrictions=$(explain_restrictions)
  if [ -n "$restrictions" ]; then
    result warn restrictions "$(out "$restrictions" | join ';')"
  fi
}
