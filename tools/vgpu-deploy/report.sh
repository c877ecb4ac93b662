# Results of checks: a line each for people, or one JSON object.

json=0
results='' failures=0 failed_names=''

quote() { printf '"%s"' "$(printf '%s' "$1" | tr '\n\t' '  ' | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# result ok|FAIL|warn|skip NAME DETAIL
result() {
  if [ "$1" = FAIL ]; then
    failures=$((failures + 1))
    failed_names="$failed_names${failed_names:+, }$2"
  fi
  if [ "$json" = 1 ]; then
    status=$1
    [ "$status" != FAIL ] || status=fail
    results="$results${results:+,
  }{\"check\": $(quote "$2"), \"status\": \"$status\", \"detail\": $(quote "$3")}"
  else
    printf '%-5s %-12s %s\n' "$1" "$2" "$3"
  fi
}

# result_lines NAME TEXT GOOD: a failure for each line of TEXT, or GOOD if there is none.
result_lines() {
  if [ -z "$2" ]; then
    result ok "$1" "$3"
    return
  fi
  while_ifs=$IFS
  IFS=$newline
  for result_line in $2; do
    IFS=$while_ifs
    result FAIL "$1" "$result_line"
  done
  IFS=$while_ifs
}

print_json() {
  passed=true
  [ "$failures" = 0 ] || passed=false
  printf '{"tool": "%s", "version": %s, "service": %s, "installed": %s, "passed": %s, "checks": [\n  %s\n]}\n' \
    "$program" "$(quote "$tool_version")" "$(quote "$unit")" "$(quote "${installed_version:-}")" "$passed" "$results"
}
