# install: check, show, ask, change, verify; undo everything if the verification fails.

unit='' cuda='' how='' into='' device='' source_dir='' dry_run=0 yes=0

parse_install() {
  while [ $# -gt 0 ]; do
    case $1 in
      --service | --cuda | --how | --into | --device | --from) [ $# -ge 2 ] || bad_usage "$1 takes a value" ;;
    esac
    case $1 in
      --service) unit=$(unit_of "$2") || exit 2; shift ;;
      --cuda) cuda=$2; shift ;;
      --how) how=$2; shift ;;
      --into) into=$2; how=links; shift ;;
      --device) device=$2; shift ;;
      --from) source_dir=$2; shift ;;
      --dry-run) dry_run=1 ;;
      --yes | -y) yes=1 ;;
      *ld.so.preload* | --system-wide | --global)
        bad_usage "never system-wide: /etc/ld.so.preload is loaded into init, sshd and every other process, and an \
error in it locks everybody out of the machine. One service is given its libraries by its own drop-in" ;;
      *) bad_usage "install does not know '$1'" ;;
    esac
    shift
  done
  # An upgrade goes on as the installation was.
  if read_state && [ -n "$installed_version" ]; then
    [ -z "$unit" ] || [ "$unit" = "$installed_unit" ] ||
      die "vgpu is installed for $installed_unit; one service at a time: $program uninstall, then install for $unit"
    unit=$installed_unit
    : "${cuda:=$installed_cuda}" "${how:=$installed_how}" "${device:=$installed_device}"
    case $how:$installed_how in
      links:links) ;;
      links:* | *:links) die "vgpu is installed with --how $installed_how: $program uninstall, then install with --how $how" ;;
    esac
    [ -z "$into" ] || [ "$into" = "$installed_into" ] ||
      die "vgpu's links are in $installed_into: $program uninstall, then install with --into $into"
    into=$installed_into
  fi
  : "${unit:=ollama.service}" "${cuda:=12}" "${how:=preload}"
  case $cuda in 12 | 13 | all) ;; *) bad_usage "--cuda takes 12, 13 or all" ;; esac
  case $how in preload | path | links) ;; *) bad_usage "--how takes preload, path or links" ;; esac
  if [ "$how" = links ]; then
    : "${into:=$(links_folder)}"
    case $into in
      '') die "no folder cuda_v12 or cuda_v13 of ${unit%.service} was found: name the one that it loads its CUDA libraries from with --into FOLDER" ;;
      *[!A-Za-z0-9@:._/+-]* | */../* | */.. | [!/]*) bad_usage "--into takes an absolute path without special characters" ;;
    esac
    into=${into%/}
    if is_everybodys "$into"; then
      bad_usage "--into: $into is searched for every program of this machine; never system-wide"
    fi
    [ -d "$R$into" ] || die "--into: there is no folder $into"
  fi
  case $device in
    '' | /*) ;;
    *[!0-9a-fA-F:.]*) bad_usage "--device takes a PCI address such as 0000:00:04.0, or an absolute path" ;;
  esac
  case $device in *[!A-Za-z0-9:._/-]*) bad_usage "--device: '$device' holds characters that a drop-in cannot" ;; esac
}

# is_everybodys FOLDER: whether the loader looks there for every program.
is_everybodys() {
  case $1 in
    '' | /lib | /lib64 | /usr/lib | /usr/lib64 | /lib/x86_64-linux-gnu | /usr/lib/x86_64-linux-gnu | /usr/local/lib | \
      /usr/local/lib64 | /usr/local/lib/x86_64-linux-gnu | /usr/local/cuda*/lib64) return 0 ;;
  esac
  grep -qxF -- "$1" "$R"/etc/ld.so.conf "$R"/etc/ld.so.conf.d/*.conf 2>/dev/null
}

# plan PATH MODE SOURCE NOTE: one file that should be there.
plan() {
  if [ ! -e "$R$1" ] && [ ! -L "$R$1" ]; then
    verb=new
  elif same_bytes "$R$1" "$3"; then
    verb=same
  else
    verb=change
  fi
  [ "$verb" = same ] || changes_planned=$((changes_planned + 1))
  plan_text=$plan_text$(printf '  %-7s %-48s %s' "$verb" "$1" "$4")$newline
}

# leads_to LINK TARGET: whether it is such a link.
leads_to() { [ -L "$R$1" ] && [ "$(readlink "$R$1")" = "$2" ]; }

# plan_link LINK TARGET: one link that should be there.
plan_link() {
  was=
  if leads_to "$1" "$2"; then
    verb=same
  elif [ -L "$R$1" ]; then
    verb=change was=", was a link to $(readlink "$R$1")"
  elif [ -e "$R$1" ]; then
    verb=change was=", was a file"
  else
    verb=new
  fi
  [ "$verb" = same ] || changes_planned=$((changes_planned + 1))
  plan_text=$plan_text$(printf '  %-7s %-48s %s' "$verb" "$1" "-> $2$was")$newline
}

# A number for the group that no group has: from the top of what distributions give to services.
free_gid() {
  gid=999
  while grep -q "^[^:]*:[^:]*:$gid:" "$R/etc/group" ||
    { [ -z "$R" ] && command -v getent >/dev/null 2>&1 && getent group "$gid" >/dev/null; }; do
    gid=$((gid - 1))
    [ "$gid" -ge 100 ] || die "no group number below 1000 is free"
  done
  out "$gid"
}

# A file and one line more. A last line without its end gets it.
with_line() {
  cat "$1" || return 1
  [ -z "$(tail -c 1 "$1")" ] || out ""
  out "$2"
}

stage_group() {
  group_is_new=0
  if [ -z "$(group_number)" ]; then
    group_is_new=1
    gid=$(free_gid) || exit 1
    with_line "$R/etc/group" "$group:x:$gid:" >"$work/group" || die "cannot write $work"
    [ ! -f "$R/etc/gshadow" ] || with_line "$R/etc/gshadow" "$group:!::" >"$work/gshadow"
  fi
}

make_plan() {
  dropin=/etc/systemd/system/$unit.d/vgpu.conf
  tree=$home/lib/$version_id
  plan_text='' changes_planned=0
  plan "$rescue" 0755 "$work/rescue" "the way back, for a console"
  if [ "$group_is_new" = 1 ]; then
    plan /etc/group keep "$work/group" "one line: the group $group, without members"
    [ ! -f "$work/gshadow" ] || plan /etc/gshadow keep "$work/gshadow" "one line: the same group"
  fi
  if [ -f "$R$tree/SHA256SUMS" ] && cmp -s "$R$tree/SHA256SUMS" "$work/lib/SHA256SUMS" && check_sums "$R$tree"; then
    plan_text="$plan_text$(printf '  %-7s %s' same "$tree/")$newline"
  else
    verb=new
    [ ! -d "$R$tree" ] || verb=change
    changes_planned=$((changes_planned + 1))
    plan_text="$plan_text$(printf '  %-7s %-48s %s' "$verb" "$tree/" "the libraries, in a folder of their own")$newline"
  fi
  plan "$home/bin/$program" 0755 "$work/tool" "this program"
  plan "$rules" 0644 "$rules_source" "the device for group $group"
  if [ "$how" = links ]; then
    plan_link "$home/current" "lib/$version_id"
    for name in $(link_names); do plan_link "$into/$name" "$home/current/$name"; done
  fi
  plan "$dropin" 0644 "$work/dropin" "for $unit alone"
}

show_plan() {
  out ""
  out "Files:"
  printf '%s' "$plan_text"
  out ""
  out "$dropin:"
  sed 's/^/    /' "$work/dropin"
  out "$rules:"
  grep -v '^#' "$rules_source" | sed 's/^/    /'
  out ""
  out "Then: systemctl daemon-reload$([ "$(show "$unit" ActiveState)" != active ] || out "; systemctl restart $unit"), and the checklist."
  out "To undo at any time: $home/bin/$program uninstall, or from a console: sh $rescue"
}

cmd_install() {
  parse_install "$@"
  need_root install
  make_work
  one_at_a_time
  if read_state && [ "$interrupted" = 1 ]; then
    [ "$dry_run" = 0 ] || die "an interrupted installation was found; install, rollback or uninstall undo it first"
    out "An installation was interrupted. Undoing what it had done:"
    choose_tools
    undo_last_transaction || die "the interrupted installation cannot be undone; see above"
    read_state || :
  fi
  find_source
  out "Checks:"
  preflight
  [ "$failures" = 0 ] || die "$failures of the checks failed ($failed_names); nothing was changed"
  stage_libraries "$work/lib"
  emit_rescue >"$work/rescue"
  cp "$0" "$work/tool" && grep -q emit_rescue "$work/tool" || die "cannot read this script ($0)"
  rules_source=$work/lib/70-vgpu.rules
  stage_group
  write_dropin >"$work/dropin"
  make_plan
  show_plan
  if [ "$changes_planned" = 0 ]; then
    out ""
    out "Everything is in place already: nothing to change. Check it with: $program verify"
    return 0
  fi
  [ "$dry_run" = 0 ] || { out ""; out "Dry run: nothing was changed."; return 0; }
  confirm "Make these changes?"
  change_everything
  out ""
  out "Checklist:"
  failures=0 failed_names=''
  [ "$service_before" != active ] || wait_until 60 is_settled || :
  checklist
  if [ "$failures" != 0 ]; then
    say "error: the verification failed ($failed_names)"
    explain_restrictions | sed 's/^/  a restriction of the unit may be why: /' >&2
    roll_back_failed_install
    exit 1
  fi
  record commit "$version_id"
  out ""
  out "Installed: $unit uses the vGPU. Undo with: $home/bin/$program uninstall"
}

confirm() {
  [ "$yes" = 0 ] || return 0
  (: </dev/tty) 2>/dev/null || die "nobody can be asked here: give --yes after looking at --dry-run"
  printf '%s [y/N] ' "$1" >/dev/tty
  read -r reply </dev/tty || reply=
  case $reply in
    y | Y | yes | Yes) ;;
    *) die "not confirmed; nothing was changed" ;;
  esac
}

# Others who change accounts take the same locks (useradd, groupadd).
lock_accounts() {
  stamp /etc
  for account_file in /etc/group /etc/gshadow; do
    record lock "$account_file.lock" "$$"
    tries=0
    until (set -C && printf '%s\n' "$$" >"$R$account_file.lock") 2>/dev/null; do
      tries=$((tries + 1))
      [ "$tries" -lt 10 ] || broken "$account_file.lock exists: is somebody changing accounts?"
      sleep 1
    done
  done
}

unlock_accounts() { rm -f "$R/etc/group.lock" "$R/etc/gshadow.lock"; }

change_everything() {
  out ""
  out "Changing:"
  service_before=$(show "$unit" ActiveState)
  begin_transaction "$version_id" "$unit" "$cuda" "$how" "${device:--}" "${into:--}"
  if [ ! -f "$S/baseline" ]; then
    { systemctl is-system-running; failed_units; } >"$S/baseline" 2>/dev/null
  fi
  if [ "$group_is_new" = 1 ]; then
    lock_accounts
    put_as=line put_note=$group
    put_file /etc/group keep "$work/group"
    [ ! -f "$work/gshadow" ] || put_file /etc/gshadow keep "$work/gshadow"
    unset put_as put_note
    unlock_accounts
    out "  added the group $group"
  fi
  put_libraries
  put_changed "$home/bin/$program" 0755 "$work/tool"
  give_device_to_group
  record service "$unit" "$service_before"
  if [ "$how" = links ]; then put_links; fi
  put_changed "$dropin" 0644 "$work/dropin"
  systemctl daemon-reload || broken "systemctl daemon-reload failed"
  point
  folder=$tree tool=$R$tree/vgpu-check
  start_counting
  if [ "$service_before" = active ]; then
    restarted_at=$(date +%s)
    systemctl restart "$unit" || broken "$unit does not start with vgpu's libraries: journalctl -u $unit"
    out "  restarted $unit"
  fi
  point
}

put_libraries() {
  if [ ! -d "$R$tree" ]; then
    put_tree "$tree" "$work/lib"
    out "  wrote $tree/"
  else
    # Our own folder, damaged: mended file by file.
    for staged in "$work"/lib/*; do
      [ -L "$staged" ] || put_changed "$tree/${staged##*/}" keep "$staged"
    done
  fi
}

# All links lead through one, so that an upgrade is one rename.
put_links() {
  put_changed_link "$home/current" "lib/$version_id"
  for name in $(link_names); do put_changed_link "$into/$name" "$home/current/$name"; done
}

put_changed_link() {
  leads_to "$1" "$2" || { put_link "$1" "$2"; out "  linked $1"; }
}

# put_changed PATH MODE SOURCE: put_file, where the content differs.
put_changed() {
  if [ -f "$R$1" ] && same_bytes "$R$1" "$3"; then return 0; fi
  make_folder "${1%/*}"
  put_file "$1" "$2" "$3"
  out "  wrote $1"
}

give_device_to_group() {
  record udev
  for resource in $(switched_off); do record enable "$resource"; done
  put_changed "$rules" 0644 "$rules_source"
  resources=$(resource_files)
  [ -n "$resources" ] || return 0
  for resource in $resources; do
    # shellcheck disable=SC2046 # two words: mode and owner
    record mode "$resource" $(stat -c '%a %u:%g' "$R$resource")
  done
  if command -v udevadm >/dev/null 2>&1; then
    udevadm control --reload && vgpu_functions | while read -r function; do
      udevadm trigger --action=add "${function#"$R"}"
    done && udevadm settle --timeout=20
  fi
  point
  # A rule that did not run (no udev) is made up for until the next boot.
  for resource in $resources; do
    [ "$(stat -c %g:%a "$R$resource")" = "$(group_number):660" ] || {
      chgrp "$(group_number)" "$R$resource" && chmod 0660 "$R$resource"
    } 2>/dev/null || out "  note: cannot give $resource to the group $group"
  done
  out "  gave the vGPU's memory to the group $group"
}

roll_back_failed_install() {
  say "undoing what was done"
  # Whatever follows must not end up here again.
  broken() { say "error: $*"; undo_failed=1; }
  choose_tools
  if [ ! -f "$R$state_dir/manifest" ]; then
    undo_everything >&2
  else
    read_state || :
    undo_last_transaction >&2
  fi
  if [ "$undo_failed" = 0 ]; then
    say "everything is as it was before"
  else
    say "NOT everything could be undone; run: sh $rescue"
  fi
}

cmd_uninstall() {
  need_root uninstall
  [ $# = 0 ] || [ "$*" = --yes ] || bad_usage "uninstall takes no '$*'"
  make_work
  one_at_a_time
  [ -d "$R$state_dir" ] || { out "vgpu is not installed: $state_dir is not there"; undo_everything >/dev/null; return 0; }
  out "Undoing:"
  choose_tools
  undo_everything
  [ "$undo_failed" = 0 ] || die "not everything could be undone; the record is $R$state_dir/manifest"
  left=$(processes_with_ours | tr '\n' ' ')
  [ -z "$left" ] || say "note: processes that still map the libraries until they end: $left"
  out "Everything is as it was before the installation."
}

cmd_rollback() {
  need_root rollback
  [ $# = 0 ] || [ "$*" = --yes ] || bad_usage "rollback takes no '$*'"
  make_work
  one_at_a_time
  if ! read_state; then
    out "vgpu is not installed: there is nothing to roll back"
    return 0
  fi
  out "Undoing the last installation:"
  choose_tools
  undo_last_transaction || die "not everything could be undone; the record is $R$state_dir/manifest"
  if read_state; then out "Back to version $installed_version for $installed_unit."; else out "Back to before the first installation."; fi
}
