# A small Debian with systemd and sshd as the root of a virtual machine of its own, for the tests of vgpu-deploy.
# Its packages are unpacked, not installed: nothing is mounted, no chroot is entered, no script of theirs runs, so
# that it works in a container, too. What those scripts would have written is written here.
# To be sourced after scripts/lib.sh and kernel.sh.
# shellcheck shell=bash disable=SC2154

guest_root_packages=(systemd-sysv udev kmod openssh-server openssh-client libpam-runtime login passwd bash dash coreutils
  grep sed mawk findutils tar gzip diffutils debianutils util-linux mount hostname procps base-files base-passwd libc-bin
  libstdc++6 ncurses-base init-system-helpers)
# Made anew when this file changes.
guest_root_key=$(sha256sum <"${BASH_SOURCE[0]}")
guest_root_image=$vm_cache/guest-root-${guest_root_key:0:12}.ext4

# make_guest_root: makes the image, once. As root alone, since it holds files of several users.
make_guest_root() {
  [[ ! -f $guest_root_image ]] || return 0
  ((EUID == 0)) || { say "not root: the tests that boot a Debian of their own are skipped (its files have several owners)"; return 0; }
  type -P apt-get dpkg-deb >/dev/null || { say "not Debian (no apt-get): the tests that boot a Debian of their own are skipped"; return 0; }
  program mke2fs >/dev/null || die "mke2fs is not installed: scripts/setup installs it with e2fsprogs"
  need_space "$vm_cache" 800 "a Debian for the tests"
  local folder
  folder=$(mktemp -d "$vm_cache/guest-root.XXXXXX")
  chmod 755 "$folder"
  step "a Debian with systemd and sshd (50 MB to fetch) into $guest_root_image" \
    bash -ec "$(declare -f program fetch_guest_packages unpack_guest_packages configure_guest pack_guest)
      fetch_guest_packages \"\$1\" \"\${@:3}\"; unpack_guest_packages \"\$1\"; configure_guest \"\$1/root\"; pack_guest \"\$@\"" \
    _ "$folder" "$guest_root_image" "${guest_root_packages[@]}" ||
    { rm -rf -- "$folder"; die "the Debian for the tests could not be made: is there a network, and are the package lists fresh (apt-get update)?"; }
  rm -rf -- "$folder"
}

# fetch_guest_packages FOLDER PACKAGE...: these and all that they need, as for a machine on which nothing is installed.
fetch_guest_packages() {
  local folder=$1
  shift
  mkdir -p "$folder/archives/partial"
  : >"$folder/status"
  apt-get -q -y --download-only -o "Dir::State::status=$folder/status" -o "Dir::Cache::archives=$folder/archives" \
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Install-Recommends=0 -o APT::Sandbox::User=root install "$@"
}

unpack_guest_packages() {
  local root=$1/root package folder
  mkdir -p "$root/usr"
  # As Debian has it: the folders of /usr under their old names, too.
  for folder in bin sbin lib lib64; do
    mkdir "$root/usr/$folder"
    ln -s "usr/$folder" "$root/$folder"
  done
  for package in "$1"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -C "$root" --keep-directory-symlink --exclude './usr/share/doc/*' \
      --exclude './usr/share/man/*' --exclude './usr/share/locale/*' --exclude './usr/lib/udev/hwdb.d/*' \
      --exclude './lib/udev/hwdb.d/*' --exclude '*/perl/*' --exclude '*/perl5/*' --exclude './usr/share/bash-completion/*' -x
  done
}

# configure_guest ROOT: accounts, PAM, sshd and the units, as the packages' scripts would leave them.
configure_guest() {
  local root=$1 name number unit
  [[ -e $root/usr/bin/sh ]] || ln -s dash "$root/usr/bin/sh"
  [[ -e $root/usr/bin/awk ]] || ln -s mawk "$root/usr/bin/awk"
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  sed -i 's/^\([^:]*\):[^:]*:/\1:x:/' "$root/etc/passwd" "$root/etc/group"
  echo 'sshd:x:101:65534::/run/sshd:/usr/sbin/nologin' >>"$root/etc/passwd"
  number=101
  for name in systemd-journal systemd-network crontab input sgx kvm render _ssh; do
    echo "$name:x:$number:" >>"$root/etc/group"
    number=$((number + 1))
  done
  sed 's/^\([^:]*\):.*/\1:*:19000:0:99999:7:::/' "$root/etc/passwd" >"$root/etc/shadow"
  sed 's/^\([^:]*\):.*/\1:*::/' "$root/etc/group" >"$root/etc/gshadow"
  chown 0:42 "$root/etc/shadow" "$root/etc/gshadow"
  chmod 640 "$root/etc/shadow" "$root/etc/gshadow"
  cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/usr/share/base-files/profile" "$root/etc/"
  : >"$root/etc/environment"
  : >"$root/etc/default/locale"
  rm -rf -- "$root/var/run" "$root/var/lock" "$root/usr/lib/tmpfiles.d/systemd-network.conf"
  ln -s /run "$root/var/run"
  ln -s /run/lock "$root/var/lock"
  echo 'auth required pam_unix.so' >"$root/etc/pam.d/common-auth"
  echo 'account required pam_unix.so' >"$root/etc/pam.d/common-account"
  echo 'password required pam_unix.so yescrypt' >"$root/etc/pam.d/common-password"
  echo 'session required pam_unix.so' | tee "$root/etc/pam.d/common-session" >"$root/etc/pam.d/common-session-noninteractive"
  echo vgpu-guest >"$root/etc/hostname"
  echo '127.0.0.1 localhost vgpu-guest' >"$root/etc/hosts"
  echo '/dev/vda / ext4 rw,noatime 0 0' >"$root/etc/fstab"
  # A known machine does not go through a first boot.
  echo 5f1e0c1d2b3a49788796a5b4c3d2e1f0 >"$root/etc/machine-id"
  mkdir -p "$root"/{host,opt,srv,mnt,root/.ssh,etc/systemd/system/multi-user.target.wants,etc/systemd/journald.conf.d,usr/local/sbin}
  chmod 700 "$root/root" "$root/root/.ssh"
  chmod 1777 "$root/tmp" "$root/var/tmp"
  printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
  [[ -f $root/etc/ssh/sshd_config ]] || cp "$root/usr/share/openssh/sshd_config" "$root/etc/ssh/sshd_config"
  printf 'UseDNS no\nMaxStartups 100\n' >>"$root/etc/ssh/sshd_config"
  ssh-keygen -q -t ed25519 -N '' -C vgpu-guest -f "$root/etc/ssh/ssh_host_ed25519_key"
  ln -s /lib/systemd/system/ssh.service "$root/etc/systemd/system/multi-user.target.wants/ssh.service"
  ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
  # What such a machine can do without: what asks the clock or the network, and what makes an emulated boot slow.
  for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-tmpfiles-clean.timer getty.target getty@tty1.service getty-static.service serial-getty@ttyS0.service systemd-logind.service systemd-random-seed.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-pstore.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    systemd-machine-id-commit.service systemd-firstboot.service systemd-sysusers.service systemd-hwdb-update.service \
    systemd-network-generator.service systemd-modules-load.service systemd-boot-system-token.service kmod-static-nodes.service \
    systemd-remount-fs.service systemd-fsck-root.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-rfkill.socket systemd-initctl.socket \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount \
    modprobe@configfs.service modprobe@drm.service modprobe@fuse.service modprobe@efi_pstore.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
}

# pack_guest FOLDER IMAGE: the image, by one rename; beside it the sums of its files.
pack_guest() {
  "$(program ldconfig)" -r "$1/root" 2>/dev/null || :  # only makes programs start sooner
  (cd -- "$1/root" && find . -type f -print0 | xargs -0 sha256sum) | sed 's|  \./|  /|' >"$1/sums"
  truncate -s 400M "$1/image"
  "$(program mke2fs)" -q -t ext4 -d "$1/root" -L guest "$1/image"
  rm -f -- "${2%/*}"/guest-root*.ext4 "${2%/*}"/guest-root*.sums
  mv -- "$1/sums" "${2%.ext4}.sums"
  mv -- "$1/image" "$2"
}
