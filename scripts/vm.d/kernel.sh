# The guest's kernel and its initial RAM disk. Nothing is installed on this machine: a kernel of /boot is used where
# one suits, else Debian's cloud kernel is downloaded by its package's name and unpacked into the cache.
# To be sourced after scripts/lib.sh.
# shellcheck shell=bash disable=SC2034,SC2154

vm_cache=$cache/vm
# What the guest needs beyond any kernel's own parts. Without virtiofs the host's files come by 9p.
vm_modules=(virtio_pci virtio_console overlay)

# program NAME: its path, in the folders of the administrator too, which an ordinary user's PATH lacks.
program() { PATH=$PATH:/usr/sbin:/sbin:/usr/libexec:/usr/lib/qemu type -P "$1"; }

# module_files KERNEL_ROOT VERSION MODULE...: the files to load, in order, each once.
module_files() {
  local folder=$1 version=$2 module
  shift 2
  for module; do
    "$(program modprobe)" --dirname "$folder" --set-version "$version" --show-depends "$module" 2>/dev/null || return
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}

# find_kernel MODULE...: sets kernel_image, kernel_version and kernel_root (the folder above lib/modules) to a kernel
# that has these modules too; false if there is none on this machine. A cloud kernel boots fastest.
find_kernel() {
  local image version folder
  while read -r image; do
    version=${image##*/vmlinuz-}
    folder=${image%/boot/*}
    [[ -r $image && -d ${folder:-/}/lib/modules/$version ]] || continue
    module_files "${folder:-/}" "$version" "${vm_modules[@]}" "$@" >/dev/null || continue
    kernel_image=$image kernel_version=$version kernel_root=${folder:-/}
    return 0
  done < <(
    for pattern in "$vm_cache/kernels/*/boot/vmlinuz-*-cloud-*" "$vm_cache/kernels/*/boot/vmlinuz-*" '/boot/vmlinuz-*'; do
      compgen -G "$pattern" | sort --version-sort --reverse
    done
  )
  return 1
}

# Downloads the newest kernel of package family $1 (linux-image-cloud-amd64) into the cache.
fetch_kernel() {
  local family=$1 package folder
  type -P apt-get dpkg-deb >/dev/null ||
    die "no kernel in /boot suits the guest, and this is not Debian (no apt-get): put a kernel's boot/ and lib/modules/ into $vm_cache/kernels/NAME/"
  package=$(apt-cache depends --important "$family" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
  [[ -n $package ]] || die "apt knows no package $family: run apt-get update"
  need_space "$vm_cache/kernels" 400 "the guest's kernel"
  folder=$(mktemp -d "$vm_cache/kernels/download.XXXXXX")
  chmod 755 "$folder"
  # In a shell of its own, since apt-get downloads into the current folder.
  # shellcheck disable=SC2016
  step "Debian package $package with the guest's kernel (30 to 70 MB) into $vm_cache/kernels" \
    bash -ec 'cd -- "$1"; apt-get download -q -o APT::Sandbox::User=root "$2"; dpkg-deb -x ./*.deb "$1"' _ "$folder" "$package" ||
    { rm -rf -- "$folder"; die "apt-get could not download $package: is there a network, and are the package lists fresh (apt-get update)?"; }
  rm -rf -- "$folder"/*.deb "${folder:?}/usr/share"
  [[ -d $folder/lib ]] || ln -s usr/lib "$folder/lib"
  "$(program depmod)" --basedir "$folder" "${package#linux-image-}" ||
    { rm -rf -- "$folder"; die "depmod could not list the modules of $package"; }
  rm -rf -- "${vm_cache:?}/kernels/$package"
  mv -- "$folder" "$vm_cache/kernels/$package"
}

# make_initrd MODULE...: sets initrd to the RAM disk for the kernel that find_kernel found with them; made once.
make_initrd() {
  local files file name folder busybox key
  busybox=$(program busybox) || die "busybox is not installed: scripts/setup installs busybox-static"
  mapfile -t files < <(module_files "$kernel_root" "$kernel_version" "${vm_modules[@]}" "$@")
  key=$({ printf '%s\n' "$kernel_version" "${files[@]}"; cat -- "$root/scripts/vm.d/init" "$kernel_image" "$busybox"; } | sha256sum | cut -c 1-16)
  initrd=$vm_cache/initrd-$kernel_version-$key
  [[ -f $initrd ]] && return
  folder=$(mktemp -d "$vm_cache/initrd.XXXXXX")
  mkdir -p -- "$folder/bin" "$folder/modules"
  cp -- "$busybox" "$folder/bin/busybox"
  install -m 755 -- "$root/scripts/vm.d/init" "$folder/init"
  for file in "${files[@]}"; do
    name=${file##*/}
    case $name in
      *.xz) name=${name%.xz}; xz -dc -- "$file" ;;
      *.zst) name=${name%.zst}; zstd -dcq -- "$file" ;;
      *.gz) name=${name%.gz}; gzip -dc -- "$file" ;;
      *) cat -- "$file" ;;
    esac >"$folder/modules/$name"
    printf '%s\n' "$name" >>"$folder/modules/order"
  done
  pack "$folder" >"$folder.cpio"
  mv -- "$folder.cpio" "$initrd"  # one rename: nobody ever sees half of it
  rm -rf -- "$folder"
}

# pack FOLDER: as the kernel unpacks it.
pack() { (cd -- "$1" && find . | "$(program busybox)" cpio -o -H newc 2>/dev/null); }
