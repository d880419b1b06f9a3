#!/usr/bin/env bash
# One short run of one case of every benchmark program, to see that they still run: bench_smoke.sh BUILD_FOLDER
# Figures come from bench/ itself, on a quiet machine.
set -euo pipefail
status=0
for program in "$1"/bench/*_bench; do
  name=$(basename "$program")
  case=$("$program" --benchmark_list_tests | head -n 1)
  echo "$name: $case"
  [ -n "$case" ] || { echo "$name lists no benchmark"; status=1; continue; }
  log=$("$program" --benchmark_filter="^$case\$" --benchmark_min_time=0.01 2>&1) || { echo "$log"; status=1; continue; }
  echo "$log" | tail -n 1
  if grep -q ERROR <<<"$log"; then status=1; fi
done
exit "$status"
