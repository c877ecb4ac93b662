# Putting back what an installation changed, from its manifest. This part alone is also the heart of
# vgpu-emergency-recovery: shell builtins, and rm, cp, mv, rmdir, touch, chmod, chown where they work.

state_dir=/var/lib/vgpu-deploy
rescue=/usr/local/sbin/vgpu-emergency-recovery
tab='	'
newline='
'
undo_failed=0
builtins_only=0

note() { printf '  %s\n' "$*"; }
trouble() {
  printf '  ! %s\n' "$*" >&2
  undo_failed=1
}

# Makes rm and the others work, be it through busybox; without either, files can still be emptied.
choose_tools() {
  if rm -f "$R/.vgpu-none" 2>/dev/null; then return; fi
  for busybox in /bin/busybox /usr/bin/busybox /sbin/busybox; do
    if "$busybox" rm -f "$R/.vgpu-none" 2>/dev/null; then
      rm() { "$busybox" rm "$@"; }
      cp() { "$busybox" cp "$@"; }
      mv() { "$busybox" mv "$@"; }
      rmdir() { "$busybox" rmdir "$@"; }
      touch() { "$busybox" touch "$@"; }
      chmod() { "$busybox" chmod "$@"; }
      chown() { "$busybox" chown "$@"; }
      cmp() { "$busybox" cmp "$@"; }
      readlink() { "$busybox" readlink "$@"; }
      sync() { "$busybox" sync "$@"; }
      return
    fi
  done
  builtins_only=1
}

# The changes recorded in the manifest, newest first, one a line. A line is a change and its fields, apart by
# tabs, the last a dot: what a power cut left half-written has none and was not acted on.
read_changes() {
  changes=
  [ -r "$R$state_dir/manifest" ] || return 1
  while IFS= read -r change; do
    case $change in
      *"${tab}.") changes=$change$newline$changes ;;
    esac
  done <"$R$state_dir/manifest"
}

# Whether two files hold the same bytes. Without cmp, text files only, by the shell itself.
same_bytes() {
  [ -f "$1" ] && [ -f "$2" ] || return 1
  if cmp -s "$1" "$1" 2>/dev/null; then
    cmp -s "$1" "$2"
  else
    read_text "$1"
    first_text=$text
    read_text "$2"
    [ "$first_text" = "$text" ]
  fi
}

read_text() {
  text=
  while IFS= read -r text_line || [ -n "$text_line" ]; do text=$text$text_line$newline; done <"$1"
}

# to_disk FILE...: these are on the disk when it returns. An old sync knows no files, and takes everything.
to_disk() { sync "$@" 2>/dev/null || sync 2>/dev/null || :; }

# undo_put FILE NUMBER WAS: WAS is present (its content lies in saved/NUMBER) or absent.
undo_put() {
  file=$R$1 saved=$R$state_dir/saved/$2
  # The way back goes last.
  [ "$1:$3" != "$rescue:absent" ] || return 0
  if [ "$builtins_only" = 1 ]; then
    undo_put_with_builtins "$1" "$2" "$3"
    return
  fi
  rm -f "$file.vgpu-new"
  # Somebody's later edit is not thrown away.
  if [ -s "$file" ] && [ -f "$saved.left" ] && ! same_bytes "$file" "$saved.left" &&
    ! same_bytes "$file" "$saved"; then
    cp -p "$file" "$file.vgpu-saved" &&
      note "$1 was edited after the installation; that version is kept as $1.vgpu-saved"
  fi
  if [ "$3" = absent ]; then
    [ -e "$file" ] || [ -L "$file" ] || return 0
    if rm -f "$file"; then note "removed $1"; else trouble "cannot remove $1"; fi
  else
    put_back "$1" "$saved"
  fi
}

# put_back FILE SAVED: FILE gets the content, mode, owner and times of SAVED.
put_back() {
  if same_bytes "$R$1" "$2"; then return 0; fi
  if { cp -a "$2" "$R$1.vgpu-new" 2>/dev/null || cp -p "$2" "$R$1.vgpu-new"; } && to_disk "$R$1.vgpu-new" &&
    mv -f "$R$1.vgpu-new" "$R$1"; then
    note "restored $1"
  else
    rm -f "$R$1.vgpu-new"
    trouble "cannot restore $1; its earlier content is $2"
  fi
}

undo_put_with_builtins() {
  if [ "$3" = absent ]; then
    [ -s "$R$1" ] || return 0
    case $1 in
      *.conf | *.rules)
        if printf '' >"$R$1"; then note "emptied $1 (nothing here can remove it)"; else trouble "cannot empty $1"; fi
        ;;
    esac
  elif read_text "$R$state_dir/saved/$2" && printf '%s' "$text" >"$R$1"; then
    note "restored $1"
  else
    trouble "cannot restore $1"
  fi
}

# undo_link LINK NUMBER WAS LEFT: LINK leads to LEFT since the installation, and was absent, or what lies in
# saved/NUMBER. What somebody has put into its place since then stays.
undo_link() {
  link=$R$1 saved=$R$state_dir/saved/$2
  if [ "$builtins_only" = 1 ]; then
    note "$1 leads to vgpu's libraries still (nothing here can remove it)"
    return
  fi
  rm -f "$link.vgpu-new"
  if [ -L "$link" ]; then
    [ "$(readlink "$link")" = "$4" ] || return 0 # not made yet, or theirs
  elif [ -e "$link" ]; then
    same_bytes "$link" "$saved" || note "$1 was replaced after the installation: left as it is"
    return
  elif [ "$3" = absent ]; then
    return
  fi
  if [ "$3" = absent ]; then
    if rm -f "$link"; then note "removed $1"; else trouble "cannot remove $1"; fi
  # Renamed without following what it leads to; an old mv does not know how.
  elif { cp -a "$saved" "$link.vgpu-new" 2>/dev/null || cp -Pp "$saved" "$link.vgpu-new"; } &&
    { mv -fT "$link.vgpu-new" "$link" 2>/dev/null || { rm -f "$link" && mv -f "$link.vgpu-new" "$link"; }; }; then
    note "restored $1"
  else
    rm -f "$link.vgpu-new"
    trouble "cannot restore $1; what it was is $saved"
  fi
}

# undo_line FILE NUMBER GROUP: FILE is /etc/group or /etc/gshadow, and got a line for GROUP. If nothing else
# has changed since, the very file of before comes back, else only our line goes.
undo_line() {
  [ "$builtins_only" = 0 ] || return 0 # a group that nobody uses harms nobody
  file=$R$1 saved=$R$state_dir/saved/$2
  rm -f "$file.vgpu-new"
  if same_bytes "$file" "$saved.left"; then
    put_back "$1" "$saved"
  elif ! same_bytes "$file" "$saved"; then
    cp -p "$file" "$file.vgpu-new" || { trouble "cannot write $1.vgpu-new"; return; }
    while IFS= read -r text_line || [ -n "$text_line" ]; do
      case $text_line in
        "$3":*) ;;
        *) printf '%s\n' "$text_line" ;;
      esac
    done <"$file" >"$file.vgpu-new"
    if to_disk "$file.vgpu-new" && mv -f "$file.vgpu-new" "$file"; then
      note "removed the group $3 from $1, which others have changed since"
    else
      trouble "cannot write $1"
    fi
  fi
}

# undo_lock FILE PROCESS: a lock of the account files, if it is still ours.
undo_lock() {
  [ -f "$R$1" ] || return 0
  read_text "$R$1"
  [ "$text" != "$2$newline" ] || rm -f "$R$1"
}

# undo_tree FOLDER: one of the library folders, which hold files of ours alone.
undo_tree() {
  [ "$builtins_only" = 0 ] || return 0 # libraries that nobody names harm nobody
  case $1 in
    /opt/vgpu/lib/?*) ;;
    *) trouble "the manifest names $1, which is not ours: left alone"; return ;;
  esac
  [ -d "$R$1" ] || return 0
  if rm -rf "$R${1:?}"; then note "removed $1"; else trouble "cannot remove $1"; fi
}

# Systemd's answer is awaited only for a while: an ailing machine must not stop the recovery.
control() {
  if command -v timeout >/dev/null 2>&1; then
    timeout 90 systemctl "$@"
  else
    systemctl "$@"
  fi
}

# undo_service UNIT WAS: its drop-in is gone by now; WAS is what it was before the installation. A service that
# somebody stopped stays stopped.
undo_service() {
  [ "$live" = 1 ] || return 0
  if ! control daemon-reload 2>/dev/null; then
    trouble "systemd does not answer. Reboot, or later: systemctl daemon-reload; systemctl restart $1"
    return
  fi
  case $(control is-active "$1" 2>/dev/null):$2 in
    active:* | activating:* | reloading:* | deactivating:* | failed:active)
      systemctl reset-failed "$1" 2>/dev/null || :
      if control restart "$1"; then note "restarted $1"; else trouble "$1 does not start: journalctl -u $1"; fi
      ;;
  esac
}

# undo_changes all|last: all of them, or those of the last transaction only.
undo_changes() {
  set -f
  saved_ifs=$IFS
  IFS=$newline
  # shellcheck disable=SC2086 # split into lines
  set -- "$1" $changes
  IFS=$saved_ifs
  how_far=$1
  shift
  for change in "$@"; do
    IFS=$tab
    # shellcheck disable=SC2086 # split into fields
    set -- $change
    IFS=$saved_ifs
    case $1 in
      begin) [ "$how_far" = all ] || break ;;
      put) undo_put "$2" "$3" "$4" ;;
      line) undo_line "$2" "$3" "$4" ;;
      link) undo_link "$2" "$3" "$4" "$5" ;;
      tree) undo_tree "$2" ;;
      service) undo_service "$2" "$3" ;;
      lock) [ "$builtins_only" = 1 ] || undo_lock "$2" "$3" ;;
      mkdir)
        if [ "$builtins_only" = 0 ] && [ "$2" != "${rescue%/*}" ] && [ -d "$R$2" ]; then
          rmdir "$R$2" 2>/dev/null || note "kept $2: it holds something that is not ours"
        fi
        ;;
      stamp) [ "$builtins_only" = 1 ] || [ ! -d "$R$2" ] || touch -r "$R$state_dir/saved/$3" "$R$2" 2>/dev/null ;;
      mode)
        if [ -e "$R$2" ] && [ "$builtins_only" = 0 ]; then
          chown "$4" "$R$2" && chmod "$3" "$R$2" || trouble "cannot give $2 its mode $3 back"
        fi
        ;;
      enable) [ ! -e "$R$2" ] || [ "$builtins_only" = 1 ] || printf 0 >"$R$2" 2>/dev/null || : ;;
      udev) [ "$live" = 0 ] || udevadm control --reload 2>/dev/null || : ;;
    esac
  done
  set +f
}

# The last step: the record of the changes, then the way back itself.
forget() {
  stamps=$R/run/vgpu-deploy.stamps
  rm -rf "$stamps"
  { [ -d "$R/run" ] && cp -Rp "$R$state_dir/stamps" "$stamps"; } 2>/dev/null || :
  # Without a manifest nothing is left to undo, whatever else is still there when this is cut short.
  rm -f "$R$state_dir/manifest" && rm -rf "$R${state_dir:?}" && rm -f "$R$rescue" \
    "$R$rescue.vgpu-new" || {
    trouble "cannot remove $state_dir or $rescue"
    return
  }
  if [ -e "$stamps/made-sbin" ]; then rmdir "$R${rescue%/*}" 2>/dev/null || :; fi
  if [ -e "$stamps/sbin" ] && [ -d "$R${rescue%/*}" ]; then touch -r "$stamps/sbin" "$R${rescue%/*}"; fi
  if [ -e "$stamps/sbin-parent" ] && [ -d "$R/usr/local" ]; then touch -r "$stamps/sbin-parent" "$R/usr/local"; fi
  if [ -e "$stamps/var-lib" ]; then touch -r "$stamps/var-lib" "$R/var/lib"; fi
  # Also what a killed installation left in memory.
  for stamps in "$R"/run/vgpu-deploy.*; do
    case $stamps in "${work-}" | *.lock) ;; *) rm -rf "$stamps" ;; esac
  done
  to_disk "$R/var/lib"
}

# Everything back to what it was before the first installation.
undo_everything() {
  # A record that was being begun: nothing had changed yet.
  if [ "$builtins_only" = 0 ]; then
    rm -rf "$R$state_dir.new"
    if [ ! -d "$R$state_dir" ] && [ -e "$R/run/vgpu-deploy.new/var-lib" ]; then
      touch -r "$R/run/vgpu-deploy.new/var-lib" "$R/var/lib"
    fi
    rm -rf "$R/run/vgpu-deploy.new"
  fi
  if [ ! -d "$R$state_dir" ]; then
    if [ -e "$R$rescue" ]; then rm -f "$R$rescue"; fi
    note "nothing is recorded in $state_dir: there is nothing to undo"
    return
  fi
  read_changes || :
  undo_changes all
  [ "$undo_failed" = 0 ] && [ "$builtins_only" = 0 ] && forget
  if [ "$builtins_only" = 1 ]; then
    note "neither rm nor busybox works here, so that files could only be emptied or overwritten."
    note "No service loads vgpu any more. Run this again when commands work, to remove the rest."
  fi
}
