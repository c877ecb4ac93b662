# What somebody at a console types when nothing else works. It needs a shell, and root.

case ${1-} in
  --help | -h)
    echo "usage: vgpu-emergency-recovery [--root FOLDER]"
    echo "Undoes everything that vgpu-deploy changed on this machine, or, from a rescue system, on the one"
    echo "whose file system is mounted at FOLDER. Can be run again at any time."
    exit 0
    ;;
  --root)
    R=${2%/}
    live=0
    [ -n "$R" ] && [ -d "$R/etc" ] || {
      echo "vgpu-emergency-recovery: '${2-}' is no root file system (it has no etc)" >&2
      exit 2
    }
    ;;
  '')
    R=${VGPU_DEPLOY_ROOT-}
    live=1
    ;;
  *)
    echo "vgpu-emergency-recovery: unknown argument '$1'; try --help" >&2
    exit 2
    ;;
esac
unset LD_PRELOAD LD_LIBRARY_PATH
[ -n "$R" ] || PATH=/usr/sbin:/usr/bin:/sbin:/bin
command -v systemctl >/dev/null 2>&1 || live=0

if [ -d "$R$state_dir" ] && ! (: >>"$R$state_dir/manifest") 2>/dev/null; then
  echo "vgpu-emergency-recovery: cannot write $R$state_dir. Be root; if the file system is read-only:" >&2
  echo "  mount -o remount,rw /" >&2
  exit 1
fi

echo "vgpu-emergency-recovery: undoing what vgpu-deploy changed"
choose_tools
undo_everything

# Never written by vgpu-deploy; but where somebody did, nothing else on the machine can be trusted.
preload=$R/etc/ld.so.preload
if [ -r "$preload" ]; then
  read_text "$preload"
  case $text in
    *vgpu* | *libcuda.so* | *libcudart* | *libcublas* | *libnvidia-ml*)
      echo "WARNING: $preload loads a CUDA library into every process of this machine:" >&2
      printf '%s' "$text" >&2
      echo "vgpu-deploy did not write it. To stop that at once:   : > $preload" >&2
      undo_failed=1
      ;;
  esac
fi

if [ "$undo_failed" = 1 ]; then
  echo "vgpu-emergency-recovery: NOT everything could be undone; see the lines with '!' above" >&2
  echo "The record is $R$state_dir/manifest, earlier contents are in $R$state_dir/saved" >&2
  exit 1
fi
echo "vgpu-emergency-recovery: done"
[ "$live" = 1 ] || echo "Reboot this machine, so that services start without vgpu."
exit 0
