#!/bin/sh
# vgpu @VERSION@ for one systemd service of a machine. As root:
#   sh THIS-FILE install --dry-run      checks, and shows what would be written
#   sh THIS-FILE --help
unpack() {
  for parent in /var/tmp "${HOME:-/root}" /tmp; do
    place=$(mktemp -d "$parent/vgpu-unpacked.XXXXXX" 2>/dev/null) && break
    place=
  done
  [ -n "$place" ] || { echo "cannot make a temporary folder in /var/tmp or /tmp: is the disk full?" >&2; exit 1; }
  trap 'rm -rf "$place"' EXIT
  sed '1,/^__BUNDLE__$/d' "$1" | base64 -d >"$place/bundle" 2>/dev/null
  if [ "$(sha256sum <"$place/bundle" | cut -c 1-64)" != @SUM@ ]; then
    echo "$1 is damaged or was cut off on its way: nothing of it is used. Copy it again." >&2
    exit 1
  fi
  tar -C "$place" -xzf "$place/bundle" || exit 1
  file=$1
  shift
  [ $# -gt 0 ] || set -- --help
  sh "$place/vgpu/vgpu-deploy" "$@"
}
unpack "$0" "$@"
exit
__BUNDLE__
