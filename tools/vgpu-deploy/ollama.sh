# What is Ollama's own: its log lines, and one generation through its API.

# http METHOD PATH [BODY]: Ollama's answer.
http() {
  address=$(setting OLLAMA_HOST | sed 's|^http://||; s|/.*||')
  case $address in
    '' | 0.0.0.0) address=127.0.0.1:11434 ;;
    0.0.0.0:*) address=127.0.0.1:${address##*:} ;;
    *:*) ;;
    *) address=$address:11434 ;;
  esac
  if command -v curl >/dev/null 2>&1; then
    curl -sS --max-time 300 -X "$1" ${3:+-d "$3"} "http://$address$2" 2>&1
  elif command -v wget >/dev/null 2>&1; then
    wget -q -T 300 -O - ${3:+--post-data="$3"} "http://$address$2" 2>&1
  elif command -v bash >/dev/null 2>&1; then
    # shellcheck disable=SC2016 # expanded by the inner shell
    timeout 300 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit 1
      printf "%s %s HTTP/1.0\r\nHost: %s\r\nContent-Length: %s\r\n\r\n%s" "$2" "$3" "$1" "${#4}" "$4" >&3
      cat <&3' - "$address" "$1" "$2" "${3-}" 2>&1
  else
    return 1
  fi
}

found_in_log() { unit_journal | grep -q -E 'inference compute'; }

verify_ollama() {
  if ! wait_until 60 found_in_log; then
    result warn discovery "no line 'inference compute' in the journal within 60 s: $program logs"
  elif unit_journal | grep -E 'inference compute' | grep -q -E 'library=(CUDA|cuda)'; then
    result ok discovery "$(unit_journal | grep -o -E 'library=(CUDA|cuda)[a-z_0-9]*.*' | head -n 1 | cut -c 1-100)"
  else
    result FAIL discovery "Ollama found no GPU: $(unit_journal | grep -o -E 'inference compute.*' | head -n 1 | cut -c 1-100)"
    return
  fi
  count=$(unit_journal | grep -o -E 'initial_count=[0-9]+' | head -n 1)
  case $count in
    '' | initial_count=[1-9]*) [ -z "$count" ] || result ok devices "$count" ;;
    *) result FAIL devices "$count: Ollama dropped every device it found ($program logs)" ;;
  esac
  verify_generation
}

verify_generation() {
  tags=$(http GET /api/tags) || {
    result skip generation "neither curl, wget nor bash is here to ask Ollama's API"
    return
  }
  model=$(out "$tags" | grep -o '"name":"[^"]*"' | head -n 1 | sed 's/.*:"//; s/"$//')
  if [ -z "$model" ]; then
    result skip generation "Ollama has no model yet; when it has: $program verify"
    return
  fi
  launches=$(counters_value launches)
  answer=$(http POST /api/generate "{\"model\": \"$model\", \"prompt\": \"Say hello.\", \"stream\": false, \
\"options\": {\"num_predict\": 8, \"temperature\": 0, \"seed\": 1}}")
  launches_after=$(counters_value launches)
  case $answer in
    *'"response"'*)
      if [ "${launches_after:-0}" -gt "${launches:-0}" ]; then
        result ok generation "$model answered; the device's launches rose from $launches to $launches_after"
      else
        result FAIL generation "$model answered, but the device's launches did not rise: it ran on the CPU"
      fi
      ;;
    *) result FAIL generation "$model: $(out "$answer" | tail -n 1 | cut -c 1-120)" ;;
  esac
  offloaded=$(unit_journal | grep -o -E 'offloaded [0-9]+/[0-9]+ layers' | tail -n 1)
  case $offloaded in
    '') ;;
    'offloaded 0/'*) result FAIL layers "$offloaded: does the model fit into the device's memory?" ;;
    *) result ok layers "$offloaded" ;;
  esac
}
