# A small Debian with systemd and sshd as the root of a virtual machine of its own, for the tests of vgpu-deploy.
# Nothing is installed on this machine: debootstrap fills a folder, which becomes an ext4 image in the cache.
# To be sourced after scripts/lib.sh and kernel.sh.
# shellcheck shell=bash disable=SC2154

guest_root_image=$vm_cache/guest-root.ext4
guest_root_packages=systemd-sysv,udev,dbus,openssh-server,openssh-client,kmod,procps,iproute2

# apt's own words for where this machine gets its packages from: "MIRROR CODENAME".
# shellcheck disable=SC2016  # apt expands these
own_mirror() {
  apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(IDENTIFIER)' 2>/dev/null |
    awk '$3 == "main" && $4 == "Packages" && $2 !~ /-/ {print $1, $2; exit}'
}

# make_guest_root: makes the image, once. As root alone, since it holds files of several users.
make_guest_root() {
  [[ ! -f $guest_root_image ]] || return 0
  ((EUID == 0)) || { say "not root: the tests that boot a Debian of their own are skipped (its files have several owners)"; return 0; }
  local mirror codename folder
  program debootstrap >/dev/null || die "debootstrap is not installed: scripts/setup installs it"
  read -r mirror codename < <(own_mirror) || die "apt names no mirror here: run apt-get update"
  need_space "$vm_cache" 1500 "a Debian for the tests"
  folder=$(mktemp -d "$vm_cache/guest-root.XXXXXX")
  chmod 755 "$folder"
  step "a Debian $codename with systemd and sshd (about 100 MB to fetch) into $guest_root_image" \
    bash -ec "$(declare -f fill_guest_root program); fill_guest_root \"\$@\"" _ "$folder" "$mirror" "$codename" \
    "$guest_root_packages" "$guest_root_image" ||
    { rm -rf -- "$folder"; die "debootstrap could not make a Debian: is there a network?"; }
  rm -rf -- "$folder"
}

fill_guest_root() {
  local root=$1/root image=$1/image
  mkdir "$root"
  "$(program debootstrap)" --variant=minbase --include="$4" "$3" "$root" "$2"
  rm -rf -- "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale,info}/* "$root"/var/log/*
  # What changes files by the clock would be taken for somebody's doing.
  local timer
  for timer in apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim systemd-tmpfiles-clean motd-news logrotate; do
    ln -sf /dev/null "$root/etc/systemd/system/$timer.timer"
  done
  echo vgpu-guest >"$root/etc/hostname"
  echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
  mkdir -p "$root/host" "$root/root/.ssh"
  truncate -s 1200M "$image"
  "$(program mke2fs)" -q -t ext4 -d "$root" -L guest "$image"
  mv -- "$image" "$5"
}
