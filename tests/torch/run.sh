#!/usr/bin/env bash
# The tests of the torch adapter and of the Python package, each file in a process of its own, two at a time:
#   run.sh PYTHON LIBRARY [NOTES] [TEST...]
# PYTHON imports torch and hypothesis; LIBRARY is libresembed_torch.so, built for that torch. What was left out goes
# to NOTES as "may <tab> what <tab> why". TEST: files, default all of them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1 library=$(realpath "$2") notes=${3:-/dev/null}
shift $(($# < 3 ? $# : 3))
export RESEMBED_TORCH_LIBRARY=$library
export PYTHONPATH=$here/../../host/torch/python:$here
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# shellcheck disable=SC2317  # xargs calls it
one() { # PYTHON LOGS FILE: a log that begins with the exit status
  local name status=0 start=$SECONDS
  name=$(basename "$3" .py)
  "$1" -W "ignore::DeprecationWarning" -m unittest -v "$name" >"$2/$name.log" 2>&1 || status=$?
  echo "$status" >"$2/$name.status"
  echo "  $([ "$status" = 0 ] && echo passed || echo FAILED) $name, $((SECONDS - start)) s: $(tail -n 3 "$2/$name.log" | tr '\n' ' ')"
  if [ "$status" != 0 ]; then cat "$2/$name.log"; fi
}
export -f one

if [ $# -gt 0 ]; then tests=("$@"); else tests=("$here"/test_*.py); fi
printf '%s\0' "${tests[@]}" | xargs -0 -n 1 -P 2 bash -c 'one "$@"' one "$python" "$logs"

status=0
for test in "${tests[@]}"; do
  name=$(basename "$test" .py)
  [ "$(cat "$logs/$name.status")" = 0 ] || status=1
  # "test_name (module.Class.test_name) ... skipped 'reason'": one line for each reason of a file
  { grep -o "skipped ['\"].*['\"]$" "$logs/$name.log" || true; } | sort | uniq -c |
    sed -E "s/^ *([0-9]+) skipped ['\"](.*)['\"]$/may\ttorch: $name (\1)\t\2/" >>"$notes"
done
exit "$status"
