# What is said about library files without tools that a small server lacks: od, grep and the dynamic loader.

all_libraries='libvgpu-cuda.so libvgpu-nvml.so libvgpu-cudart12.so libvgpu-cublasLt12.so libvgpu-cublas12.so libvgpu-cudart13.so libvgpu-cublasLt13.so libvgpu-cublas13.so'

# generation_of FILE: 12, 13, or nothing for those that serve every CUDA.
generation_of() {
  case $1 in
    *12.so) out 12 ;;
    *13.so) out 13 ;;
  esac
}

# wanted_libraries GENERATIONS: the files that a service gets, in preload order.
wanted_libraries() {
  for library in $all_libraries; do
    generation=$(generation_of "$library")
    case $1:$generation in
      all:* | *: | 12:12 | 13:13) out "$library" ;;
    esac
  done
}

# The name that programs ask the loader for.
soname_of() {
  case $1 in
    libvgpu-cuda.so) out libcuda.so.1 ;;
    libvgpu-nvml.so) out libnvidia-ml.so.1 ;;
    libvgpu-*12.so) soname=${1#libvgpu-} && out "lib${soname%12.so}.so.12" ;;
    libvgpu-*13.so) soname=${1#libvgpu-} && out "lib${soname%13.so}.so.13" ;;
  esac
}

# number OFFSET BYTES: a little-endian number of the ELF header in $elf.
number() {
  # shellcheck disable=SC2086 # the header's bytes, one a word
  set -- "$1" "$2" $elf
  offset=$1 bytes=$2
  shift 2
  shift "$offset"
  value=0 factor=1
  while [ "$bytes" -gt 0 ]; do
    value=$((value + $1 * factor))
    factor=$((factor * 256))
    bytes=$((bytes - 1))
    shift
  done
  out "$value"
}

# check_elf FILE: says why FILE is no whole shared object for this machine, or nothing.
check_elf() {
  if [ ! -r "$1" ]; then
    out "it is missing"
    return
  fi
  size=$(wc -c <"$1")
  elf=$(od -An -v -tu1 -N64 "$1" 2>/dev/null | tr -s ' \n' ' ')
  case $elf in
    ' 127 69 76 70 2 1 '*) ;;
    ' 127 69 76 70 '*) out "it is not a 64-bit little-endian ELF file" && return ;;
    *) out "it is not an ELF file" && return ;;
  esac
  if [ "$size" -lt 64 ]; then
    out "it is cut off after $size bytes"
  elif [ "$(number 18 2)" != 62 ]; then
    out "it is for another processor (ELF machine $(number 18 2), this needs 62, x86-64)"
  elif [ "$(number 16 2)" != 3 ]; then
    out "it is not a shared object (ELF type $(number 16 2))"
  else
    # The section table ends the file.
    end=$(($(number 40 8) + $(number 58 2) * $(number 60 2)))
    [ "$size" -ge "$end" ] || out "it is cut off: $size bytes, and its headers speak of $end"
  fi
}

loader=/lib64/ld-linux-x86-64.so.2

# check_needs FILE: says what else than glibc FILE needs, or what glibc lacks for it, or nothing.
check_needs() {
  if ! needs=$(LD_LIBRARY_PATH='' "$loader" --list "$1" 2>&1); then
    out "the loader refuses it: $(out "$needs" | head -n 1)"
    return
  fi
  out "$needs" | while read -r need_name need_rest; do
    case $need_name in
      linux-vdso.so.* | ld-linux-x86-64.so.2 | /lib64/ld-linux-x86-64.so.2 | libc.so.6 | libm.so.6) ;;
      libpthread.so.0 | libdl.so.2 | librt.so.1) ;;
      *) out "it needs $need_name $need_rest" && break ;;
    esac
  done
}

# The version that a library of ours carries; nothing for one that is not ours.
version_of() {
  grep -a -o 'vgpu shim library [0-9][0-9.]*[0-9]' "$1" 2>/dev/null | head -n 1 | sed 's/.* //'
}

# The newest version of glibc's symbols that the files need.
glibc_needed() {
  grep -a -o -h 'GLIBC_2\.[0-9][0-9]*' "$@" 2>/dev/null | sed 's/GLIBC_2\.//' | sort -n | tail -n 1
}

check_sums() { (cd "$1" 2>/dev/null && sha256sum -c SHA256SUMS >/dev/null 2>&1); }

# stage_libraries FOLDER: what will lie in the service's folder of its own; sets version_id.
stage_libraries() {
  mkdir "$1" || die "cannot write $work"
  for library in $(wanted_libraries "$cuda"); do
    cp "$source_dir/$library" "$1/$library" || die "cannot copy $library: is the disk full?"
    ln -s "$library" "$1/$(soname_of "$library")"
  done
  ln -s libcuda.so.1 "$1/libcuda.so"
  cp "$helper" "$1/vgpu-check" && cp "$rules_source" "$1/70-vgpu.rules" || die "cannot write $work"
  (cd "$1" && sha256sum libvgpu-*.so vgpu-check 70-vgpu.rules >SHA256SUMS) || die "cannot write $work"
  version=$(version_of "$1/libvgpu-cuda.so")
  version_id=$(sha256sum "$1/SHA256SUMS" | cut -c 1-12)
  version_id=${version:-unknown}-$version_id
}

# check_libraries FOLDER: says what is wrong with the libraries in FOLDER, a line each, or nothing.
check_libraries() {
  for library in $(wanted_libraries "$cuda"); do
    why=$(check_elf "$1/$library")
    [ -n "$why" ] || [ -n "$(version_of "$1/$library")" ] || why="it is not one of vgpu's libraries"
    [ -n "$why" ] || [ "$(version_of "$1/$library")" = "$(version_of "$1/libvgpu-cuda.so")" ] ||
      why="it is of version $(version_of "$1/$library"), and libvgpu-cuda.so of $(version_of "$1/libvgpu-cuda.so")"
    [ -n "$why" ] || why=$(check_needs "$1/$library")
    [ -z "$why" ] || out "$1/$library: $why"
  done
}

# Copies of our libraries where the loader finds them for every program, and ways to make it do so.
find_stale() {
  for folder in /usr/lib64 /lib64 /usr/lib /lib /usr/local/lib /usr/local/lib64 /usr/lib/x86_64-linux-gnu \
    /usr/local/lib/x86_64-linux-gnu /usr/local/cuda/lib64; do
    # Where /lib is a link to /usr/lib, one name is enough.
    [ -d "$R$folder" ] && [ ! -L "$R$folder" ] || continue
    for stale in "$R$folder"/libvgpu-*.so* "$R$folder"/libcuda.so* "$R$folder"/libcudart.so* \
      "$R$folder"/libcublas.so* "$R$folder"/libcublasLt.so* "$R$folder"/libnvidia-ml.so*; do
      [ -f "$stale" ] || continue
      stale_version=$(version_of "$stale")
      [ -z "$stale_version" ] && case ${stale##*/} in
        libvgpu-*) stale_version=unknown ;;
        *) grep -q VGPU_DEVICE "$stale" 2>/dev/null && stale_version=unknown ;;
      esac
      [ -z "$stale_version" ] || out "${stale#"$R"} is an older copy of vgpu's libraries (version $stale_version)"
    done
  done
  for stale in "$R"/etc/ld.so.conf "$R"/etc/ld.so.conf.d/*.conf; do
    [ -f "$stale" ] && grep -v '^[[:space:]]*#' "$stale" | grep -q vgpu &&
      out "${stale#"$R"} puts a folder of vgpu on every program's library path"
  done
}

# Why /etc/ld.so.preload is not acceptable, or nothing.
check_preload() {
  [ -s "$R/etc/ld.so.preload" ] || return 0
  for preloaded in $(sed 's/#.*//; s/:/ /g' "$R/etc/ld.so.preload"); do
    case ${preloaded##*/} in
      *vgpu* | libcuda.so* | libcudart.so* | libcublas*.so* | libnvidia-ml.so*) ;;
      *) [ -n "$(version_of "$R$preloaded")" ] || continue ;;
    esac
    out "/etc/ld.so.preload loads $preloaded into every process of this machine, init and sshd included"
  done
}
