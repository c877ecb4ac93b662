# Carrying the installation to another machine: one self-extracting file, or one ssh session.

# make_bundle FILE: everything that install needs, the same bytes each time.
make_bundle() {
  cuda=all
  bundle_dir=$work/vgpu
  mkdir "$bundle_dir"
  stage_libraries "$bundle_dir/lib"
  complaint=$(check_libraries "$bundle_dir/lib")
  [ -z "$complaint" ] || die "$complaint"
  cp "$0" "$bundle_dir/$program" && chmod 0755 "$bundle_dir/$program" || die "cannot read this script ($0)"
  if tar --version 2>/dev/null | grep -q GNU; then
    tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/bundle.tar" vgpu
  else
    tar -C "$work" -cf "$work/bundle.tar" vgpu
  fi && gzip -n -9 <"$work/bundle.tar" >"$1" || die "cannot write $1"
  rm -rf "$bundle_dir" "$work/bundle.tar"
}

sum_of() { sha256sum <"$1" | cut -c 1-64; }

cmd_bundle() {
  output=vgpu-deploy-$tool_version.sh
  while [ $# -gt 0 ]; do
    case $1 in
      -o | --output) [ $# -ge 2 ] || bad_usage "$1 takes a file"; output=$2; shift ;;
      --from) [ $# -ge 2 ] || bad_usage "$1 takes a folder"; source_dir=$2; shift ;;
      *) bad_usage "bundle does not know '$1'" ;;
    esac
    shift
  done
  make_work
  find_source
  make_bundle "$work/bundle"
  {
    emit_unpack | sed "s/@SUM@/$(sum_of "$work/bundle")/; s/@VERSION@/$tool_version/"
    base64 <"$work/bundle"
  } >"$output.new" && chmod 0755 "$output.new" && mv -f "$output.new" "$output" || die "cannot write $output"
  out "$output: $(wc -c <"$output" | tr -d ' ') bytes. On the other machine, as root: sh ${output##*/} install --dry-run"
}

# The far side of push. It announces what it has of the bundle, takes the rest, and unpacks nothing whose sum is
# not right. No quotes of any kind of shell are needed for it: it travels as base64.
far_side() {
  out "sum=$1 version=$tool_version"
  out "set -- $2"
  cat <<'FAR'
set -u
umask 077
fail() { echo "vgpu-push failed $*"; exit 1; }
for tool in base64 sha256sum tar gzip head mktemp; do
  command -v $tool >/dev/null 2>&1 || fail "the far side has no $tool"
done
as=
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || fail "$(id -un) is not root there, and sudo wants a password"
  as="sudo -n"
fi
folder=${HOME:-/var/tmp}/.vgpu-push
mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] || { folder=/var/tmp/.vgpu-push-$(id -u); mkdir -p "$folder"; } ||
  fail "neither the home folder nor /var/tmp can be written there"
part=$folder/$sum
[ -f "$part" ] || : >"$part" || fail "cannot write $folder"
echo "vgpu-push have $(wc -c <"$part") $(sha256sum <"$part")"
read -r word from || exit 1
[ "$word" = from ] || fail "unexpected answer"
head -c "$from" <"$part" >"$part.new" && mv "$part.new" "$part" || fail "cannot write $folder: is the disk full?"
base64 -d >>"$part" 2>"$part.error"
problem=$(grep -v 'invalid input' "$part.error"; rm -f "$part.error")
if [ "$(sha256sum <"$part" | cut -c 1-64)" != "$sum" ]; then
  echo "vgpu-push incomplete $(wc -c <"$part") ${problem:-}"
  exit 1
fi
place=$(mktemp -d "$folder/unpacked.XXXXXX") && tar -C "$place" -xzf "$part" || fail "cannot unpack: is the disk full?"
rm -f "$part"
$as env ${VGPU_DEPLOY_ROOT:+VGPU_DEPLOY_ROOT="$VGPU_DEPLOY_ROOT" PATH="$PATH"} sh "$place/vgpu/vgpu-deploy" install --yes "$@" </dev/null
status=$?
$as rm -rf "$place"
rmdir "$folder" 2>/dev/null
echo "vgpu-push status $status"
exit $status
FAR
}

cmd_push() {
  host='' remote_shell=${VGPU_DEPLOY_SSH:-ssh} install_options=''
  while [ $# -gt 0 ]; do
    case $1 in
      --ssh) [ $# -ge 2 ] || bad_usage "--ssh takes a command"; remote_shell=$2; shift ;;
      --from) [ $# -ge 2 ] || bad_usage "$1 takes a folder"; source_dir=$2; shift ;;
      --) shift; break ;;
      -*) bad_usage "push does not know '$1'; options of install go after --" ;;
      *) [ -z "$host" ] || bad_usage "one host at a time"; host=$1 ;;
    esac
    shift
  done
  [ -n "$host" ] || bad_usage "push takes USER@HOST"
  for option in "$@"; do
    case $option in *[!A-Za-z0-9@:._/=,-]*) bad_usage "'$option' cannot be passed on" ;; esac
    install_options="$install_options $option"
  done
  make_work
  find_source
  make_bundle "$work/bundle"
  sum=$(sum_of "$work/bundle")
  far=$(far_side "$sum" "$install_options" | base64 | tr -d '\n')
  mkfifo "$work/to" "$work/from" || die "cannot write $work"
  trap '' PIPE
  attempt=1
  until push_once; do
    [ "$push_ended" = 0 ] && [ "$attempt" -lt 3 ] || exit 1
    attempt=$((attempt + 1))
    say "the connection was lost; attempt $attempt goes on where it ended"
  done
}

# One session. Status 0: installed there. push_ended=1: the far side gave its answer, another try changes nothing.
push_once() {
  push_ended=0
  size=$(wc -c <"$work/bundle")
  # shellcheck disable=SC2086 # a command and its options
  $remote_shell "$host" "sh -c 'eval \"\$(echo $far | base64 -d)\"'" <"$work/to" >"$work/from" &
  remote=$!
  exec 3>"$work/to" 4<"$work/from"
  have=
  # A login script may say something first.
  while read -r word what have have_sum dash <&4; do
    [ "$word" = vgpu-push ] || continue
    case $what in
      have) break ;;
      failed) push_ended=1; say "error: $host: $have $have_sum $dash" ;;
    esac
    have=
  done
  if [ -n "$have" ]; then
    [ "$have" -le "$size" ] && [ "$(head -c "$have" "$work/bundle" | sha256sum | cut -c 1-64)" = "$have_sum" ] || have=0
    say "$host: sending $((size - have)) of $size bytes$([ "$have" = 0 ] || out ", the others are there already")"
    {
      out "from $have"
      tail -c +$((have + 1)) "$work/bundle" | base64
    } >&3 2>/dev/null
  fi
  exec 3>&-
  push_status=1
  while IFS= read -r answer <&4; do
    case $answer in
      'vgpu-push status '*) push_ended=1 push_status=${answer##* } ;;
      'vgpu-push failed '*) push_ended=1; say "error: $host: ${answer#vgpu-push failed }" ;;
      'vgpu-push incomplete '*) say "$host has ${answer#vgpu-push incomplete } bytes" ;;
      *) out "$host: $answer" ;;
    esac
  done
  exec 4<&-
  wait "$remote" || {
    ssh_status=$?
    [ "$push_ended" = 1 ] || say "error: the session with $host ended with status $ssh_status"
  }
  return "$push_status"
}
