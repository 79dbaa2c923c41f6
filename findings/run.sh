#!/usr/bin/env bash
# Runs all findings, or those named (findings/run.sh sinabs-square-linear): a line each, and what a script printed where it failed.
# Ends with the number of those that no longer hold.
set -euo pipefail
cd "$(dirname "$0")"
changed=0
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for script in *.sh; do
    [ "$script" = run.sh ] || names+=("$script")
  done
fi
for name in ${names[@]+"${names[@]}"}; do
  script="./${name%.sh}.sh"
  if said=$("$script" 2>&1); then
    printf 'holds    %s\n' "${name%.sh}"
  else
    changed=$((changed + 1))
    printf 'changed  %s\n%s\n' "${name%.sh}" "$(sed 's/^/         /' <<< "$said")"
  fi
done
exit "$changed"
