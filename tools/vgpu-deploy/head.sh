# vgpu-deploy: puts vgpu's CUDA libraries in front of one systemd service of this machine, proves that nothing
# else changed, and takes them off again. One POSIX shell script; run it as root in the guest.

set -u
umask 022
LC_ALL=C
export LC_ALL
# Tests work in a folder that stands for the root of the file system, with stand-ins for systemctl on PATH.
R=${VGPU_DEPLOY_ROOT-}
[ -n "$R" ] || PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
live=1
unset LD_PRELOAD LD_LIBRARY_PATH VGPU_DEVICE VGPU_LOG

program=vgpu-deploy
home=/opt/vgpu
group=vgpu
rules=/etc/udev/rules.d/70-vgpu.rules

say() { printf '%s\n' "$program: $*" >&2; }
out() { printf '%s\n' "$*"; }
die() {
  say "error: $*"
  exit 1
}
bad_usage() {
  say "error: $*"
  say "try: $program --help"
  exit 2
}

usage() {
  cat <<'USAGE'
usage: vgpu-deploy COMMAND [OPTIONS]

  install [--service NAME] [--dry-run] [--yes]   check this machine, show every change, make it, verify it, and
                                                 undo it all if the verification fails (default service: ollama)
  verify [--json]                                the whole checklist, a line each; status 0 if nothing failed
  status                                         what is installed, what runs, what it maps
  logs [-n LINES]                                the service's journal lines that matter here
  rollback                                       undo the last install (after an upgrade: back to the version before)
  uninstall                                      back to what was before the first install, byte for byte
  emergency                                      the same as /usr/local/sbin/vgpu-emergency-recovery, which needs
                                                 nothing but a shell
  bundle [-o FILE]                               write one self-extracting file to carry to another machine
  push USER@HOST [--ssh COMMAND] [-- INSTALL OPTIONS]
                                                 the same over one ssh session; scp and sftp are not needed

options of install
  --service NAME     the one systemd service whose processes get the libraries
  --how preload      LD_PRELOAD and LD_LIBRARY_PATH (default: wins over libraries that a program bundles)
  --how path         LD_LIBRARY_PATH alone
  --how links        neither: links in the folder that the program loads its own CUDA libraries from (Ollama's cuda_v12)
  --into FOLDER      that folder, where it is not Ollama's
  --cuda 12|13|all   which CUDA generations the service sees (default: 12; the software device presents compute
                     capability 6.1, for which only CUDA 12 programs hold code)
  --device WHERE     a PCI address, or a region's file; default: the first vGPU found
  --from FOLDER      the libraries to install; default: those that came with this script
  --dry-run          show what would be written, and stop
  --yes              do not ask

vgpu-deploy never writes /etc/ld.so.preload: what stands there is loaded into every process of the machine, init
and sshd included, and an error in it locks everybody out.

Documents: docs/deploy.md, docs/recovery.md
USAGE
}

# work: a folder for this run, removed at its end. bundle and push also run as an ordinary user.
make_work() {
  for parent in "$R/run" "${TMPDIR-/tmp}" /tmp; do
    work=$(mktemp -d "$parent/vgpu-deploy.XXXXXX" 2>/dev/null) && break
    work=
  done
  [ -n "$work" ] || die "cannot make a temporary folder in /run or /tmp: is the disk full?"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}

# Two that change the machine at once would record each other's halves.
one_at_a_time() {
  lock=$R/run/vgpu-deploy.lock
  until (set -C && printf '%s\n' "$$" >"$lock") 2>/dev/null; do
    read -r holder 2>/dev/null <"$lock" || holder=
    if [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; then
      die "another $program is at work (process $holder)"
    fi
    rm -f "$lock" || die "cannot write $R/run"
  done
  trap 'rm -rf "$work" "$lock"' EXIT
}

need_root() { [ "$(id -u)" = 0 ] || die "$1 changes the system: run it as root (sudo $program $1)"; }

# show UNIT PROPERTY: a property's value, on systemd versions without --value too.
show() {
  show_text=$(systemctl show -p "$2" "$1" 2>/dev/null) || return 1
  out "${show_text#*=}"
}

# A name as people give it, as a unit; only what can be a service.
unit_of() {
  case $1 in
    *[!A-Za-z0-9@:._\\-]* | '' | -* | .*) bad_usage "'$1' cannot be a service's name" ;;
    *.service) out "$1" ;;
    *.socket | *.target | *.timer | *.mount | *.slice | *.scope) bad_usage "'$1' is no service" ;;
    *) out "$1.service" ;;
  esac
}

# Where the files that come with this script lie: a bundle, an installation, a package or a build.
find_source() {
  here=$(cd "$(dirname "$0")" 2>/dev/null && pwd -P) || here=
  if [ -z "$source_dir" ]; then
    for candidate in "$here/lib" "$here/../../shim/lib" "$here/../lib/vgpu" "$here/../lib64/vgpu" "$here"/../lib/*/vgpu; do
      if [ -e "$candidate/libcuda.so.1" ]; then
        source_dir=$candidate
        break
      fi
    done
  fi
  # Run from where it was installed to, it installs what is installed.
  if [ -z "$source_dir" ] && [ "$here" = "$R$home/bin" ] && read_state; then
    source_dir=$R$home/lib/$installed_version
  fi
  [ -n "$source_dir" ] && source_dir=$(cd "$source_dir" 2>/dev/null && pwd -P) ||
    die "the libraries are not beside this script: say where they are with --from FOLDER"
  helper='' rules_source=''
  for candidate in "$here/vgpu-check" "$source_dir/vgpu-check"; do
    if [ -x "$candidate" ]; then
      helper=$candidate
      break
    fi
  done
  for candidate in "$here/70-vgpu.rules" "$source_dir/70-vgpu.rules" "$here/../lib/udev/rules.d/70-vgpu.rules"; do
    if [ -r "$candidate" ]; then
      rules_source=$candidate
      break
    fi
  done
  [ -n "$helper" ] || die "vgpu-check is not beside the libraries in $source_dir: the bundle is incomplete"
  [ -n "$rules_source" ] || die "70-vgpu.rules is not beside the libraries in $source_dir: the bundle is incomplete"
}
