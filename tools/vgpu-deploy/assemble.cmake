# cmake -DSOURCE=folder -DVERSION=v -DOUTPUT=file -P assemble.cmake: one script from its parts.
set(parts head report libraries journal checks service verify ollama install push)
# read_part(name out): a part, without the comment that says what it is for where another follows.
file(READ "${SOURCE}/undo.sh" undo)
file(READ "${SOURCE}/emergency.sh" emergency)
file(READ "${SOURCE}/unpack.sh" unpack)
set(rescue "#!/bin/sh
# vgpu-emergency-recovery: takes vgpu ${VERSION} off this machine, from a console, when nothing else works.
# shellcheck shell=dash disable=SC2013,SC2015,SC2034,SC2317
set -u
R='' live=1
${undo}
${emergency}")
set(script "#!/bin/sh
# shellcheck shell=dash disable=SC2013,SC2015,SC2034,SC2317
tool_version=${VERSION}
")
foreach(part IN LISTS parts)
  file(READ "${SOURCE}/${part}.sh" text)
  string(APPEND script "${text}\n")
endforeach()
file(READ "${SOURCE}/main.sh" main)
string(APPEND script "${undo}
emit_rescue() {
  cat <<'VGPU_RESCUE'
${rescue}VGPU_RESCUE
}

emit_unpack() {
  cat <<'VGPU_UNPACK'
${unpack}VGPU_UNPACK
}

${main}")
file(WRITE "${OUTPUT}" "${script}")
file(CHMOD "${OUTPUT}" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
file(WRITE "${OUTPUT_RESCUE}" "${rescue}")
