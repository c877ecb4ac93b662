# Changing files so that every change can be undone after a kill or a power cut at any instruction: what was
# there is saved and on the disk, then the change is recorded and on the disk, and only then made, by rename.

# A place where tests stop the tool: VGPU_DEPLOY_AT="NUMBER:COMMAND", or "every:COMMAND".
points=0
point() {
  points=$((points + 1))
  # shellcheck disable=SC2015
  case ${VGPU_DEPLOY_AT-} in
    "$points":* | every:*) eval "${VGPU_DEPLOY_AT#*:}" ;;
  esac
}

# broken TEXT: ends an installation whose change failed; the caller undoes it.
broken() {
  say "error: $*"
  roll_back_failed_install
  exit 1
}

# record OPERATION FIELDS...
record() {
  line=
  for field in "$@"; do line=$line$field$tab; done
  printf '%s.\n' "$line" >>"$S/manifest" || broken "cannot write $state_dir/manifest: is the disk full?"
  to_disk "$S/manifest"
  point
}

# The state folder, and before any other change the way back. Called with the transaction's words.
begin_transaction() {
  S=$R$state_dir
  if [ ! -f "$S/manifest" ]; then
    stamps=$R/run/vgpu-deploy.new
    rm -rf "$stamps"
    mkdir -p "$stamps" && touch -r "$R/var/lib" "$stamps/var-lib" || broken "cannot write $R/run"
    if [ -d "$R${rescue%/*}" ]; then
      touch -r "$R${rescue%/*}" "$stamps/sbin"
    else
      printf '' >"$stamps/made-sbin"
      touch -r "$R/usr/local" "$stamps/sbin-parent"
    fi
    point
    # Renamed into place, so that it is there as a whole or not at all.
    rm -rf "$S.new"
    mkdir -p "$S.new/saved" && cp -Rp "$stamps" "$S.new/stamps" && printf '' >"$S.new/manifest" &&
      chmod 0700 "$S.new" || broken "cannot make the folder $state_dir: is the disk full or read-only?"
    rm -rf "$stamps"
    rm -rf "$S"
    to_disk "$S.new" "$S.new/stamps" "$S.new/stamps"/* "$S.new/manifest"
    mv "$S.new" "$S" || broken "cannot make the folder $state_dir"
    to_disk "$R/var/lib"
    point
  fi
  saved_count=0
  for saved_file in "$S"/saved/*; do
    number=${saved_file##*/}
    number=${number%%.*}
    case $number in
      *[!0-9]* | '') ;;
      *) [ "$number" -le "$saved_count" ] || saved_count=$number ;;
    esac
  done
  # A line that a power cut left unfinished must not swallow the next.
  [ ! -s "$S/manifest" ] || printf '\n' >>"$S/manifest"
  record begin "$@"
  make_folder "${rescue%/*}"
  put_changed "$rescue" 0755 "$work/rescue"
}

make_folder() {
  [ ! -d "$R$1/" ] || return 0 # the root is there
  make_folder "${1%/*}"
  stamp "${1%/*}"
  record mkdir "$1"
  mkdir "$R$1" || broken "cannot make the folder $1: is the disk full or read-only?"
  chmod 0755 "$R$1"
  point
}

# stamp FOLDER: its times, before something in it changes. The root's name is empty.
stamp() {
  saved_count=$((saved_count + 1))
  touch -r "$R$1/" "$S/saved/$saved_count.stamp" || broken "cannot write $state_dir"
  record stamp "$1/" "$saved_count.stamp"
}

# put_file PATH MODE SOURCE: PATH gets SOURCE's content.
put_file() {
  saved_count=$((saved_count + 1))
  was=absent
  if [ -e "$R$1" ] || [ -L "$R$1" ]; then
    was=present
    cp -a "$R$1" "$S/saved/$saved_count" || broken "cannot save $1 in $state_dir: is the disk full?"
  fi
  cp "$3" "$S/saved/$saved_count.left" || broken "cannot write $state_dir: is the disk full?"
  number=$saved_count
  to_disk "$S/saved" "$S/saved/$saved_count.left"
  [ ! -f "$S/saved/$saved_count" ] || to_disk "$S/saved/$saved_count"
  point
  stamp "${1%/*}"
  record "${put_as-put}" "$1" "$number" "${put_note-$was}"
  if [ "$was" = present ]; then cp -a "$R$1" "$R$1.vgpu-new"; fi &&
    cat "$3" >"$R$1.vgpu-new" || broken "cannot write $1: is the disk full or read-only?"
  [ "$2" = keep ] || chmod "$2" "$R$1.vgpu-new" || broken "cannot set the mode of $1"
  if [ -z "$R" ] && [ "$was" = absent ]; then
    chown 0:0 "$1.vgpu-new" || broken "cannot set the owner of $1"
  fi
  to_disk "$R$1.vgpu-new"
  point
  mv -f "$R$1.vgpu-new" "$R$1" || broken "cannot write $1"
  to_disk "$R${1%/*}"
  label "$1"
  point
}

# put_link LINK TARGET: LINK leads to TARGET.
put_link() {
  saved_count=$((saved_count + 1))
  was=absent
  if [ -e "$R$1" ] || [ -L "$R$1" ]; then
    was=present
    cp -a "$R$1" "$S/saved/$saved_count" || broken "cannot save $1 in $state_dir: is the disk full?"
    [ -L "$S/saved/$saved_count" ] || to_disk "$S/saved/$saved_count"
  fi
  number=$saved_count
  to_disk "$S/saved"
  point
  stamp "${1%/*}"
  record link "$1" "$number" "$was" "$2"
  rm -f "$R$1.vgpu-new"
  ln -s "$2" "$R$1.vgpu-new" || broken "cannot write $1: is the disk full or read-only?"
  point
  mv -fT "$R$1.vgpu-new" "$R$1" || broken "cannot write $1"
  to_disk "$R${1%/*}"
  label "$1"
  point
}

# SELinux labels, where there are any.
label() {
  if [ -z "$R" ] && [ -e /sys/fs/selinux/enforce ] && command -v restorecon >/dev/null 2>&1; then
    restorecon -R "$1" 2>/dev/null || :
  fi
}

# put_tree FOLDER SOURCE: a folder of files of ours appears as a whole.
put_tree() {
  make_folder "${1%/*}"
  stamp "${1%/*}"
  record tree "${1%/*}/.new-${1##*/}"
  rm -rf "$R${1%/*}/.new-${1##*/}"
  mkdir "$R${1%/*}/.new-${1##*/}" || broken "cannot make a folder in ${1%/*}: is the disk full?"
  for tree_file in "$2"/*; do
    cp -P "$tree_file" "$R${1%/*}/.new-${1##*/}/" || broken "cannot write ${1%/*}: is the disk full?"
    point
  done
  if [ -z "$R" ]; then chown -R 0:0 "${1%/*}/.new-${1##*/}"; fi
  chmod -R u=rwX,go=rX "$R${1%/*}/.new-${1##*/}"
  check_sums "$R${1%/*}/.new-${1##*/}" || broken "the copied libraries differ from their source: is the disk well?"
  for tree_file in "$R${1%/*}/.new-${1##*/}"/*; do [ -L "$tree_file" ] || to_disk "$tree_file"; done
  to_disk "$R${1%/*}/.new-${1##*/}"
  record tree "$1"
  mv "$R${1%/*}/.new-${1##*/}" "$R$1" || broken "cannot make the folder $1: is the disk full or read-only?"
  to_disk "$R${1%/*}"
  label "$1"
  point
}

# What the manifest says: the newest completed transaction, and whether one was begun after it.
# A `begin` line holds version, unit, CUDA generations, how, device, and the folder of the links.
read_state() {
  installed_version='' installed_unit='' installed_into='' transactions=0 interrupted=0
  [ -f "$R$state_dir/manifest" ] || return 1
  state_ifs=$IFS
  while IFS= read -r change; do
    case $change in
      begin"$tab"*"$tab.")
        transactions=$((transactions + 1)) interrupted=1
        begun=$change
        ;;
      commit"$tab"*)
        interrupted=0
        IFS=$tab
        # shellcheck disable=SC2086 # split into fields
        set -- $begun
        IFS=$state_ifs
        installed_version=$2 installed_unit=$3 installed_cuda=$4 installed_how=$5 installed_device=$6
        [ "$installed_device" != - ] || installed_device=
        # An older record has no such field.
        case ${7-} in /*) installed_into=$7 ;; *) installed_into='' ;; esac
        ;;
    esac
  done <"$R$state_dir/manifest"
  [ "$transactions" -gt 0 ]
}

# Undoes the last transaction and takes it off the record.
undo_last_transaction() {
  S=$R$state_dir
  read_changes
  undo_changes last
  [ "$undo_failed" = 0 ] || return 1
  last_begin=$(grep -n "^begin$tab" "$S/manifest" | tail -n 1)
  last_begin=${last_begin%%:*}
  if [ "${last_begin:-1}" -le 1 ] || [ "$transactions" -le 1 ]; then
    forget
  else
    head -n $((last_begin - 1)) "$S/manifest" >"$S/manifest.new" && to_disk "$S/manifest.new" &&
      mv -f "$S/manifest.new" "$S/manifest"
    to_disk "$S"
  fi
}
