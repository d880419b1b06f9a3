#!/usr/bin/env bash
# The study of docs/study.md: every run, table, figure and number of it.
#
#   bash docs/study.sh [--data online_retail_ii.tsv.gz] [--out DIR] [--small]
#
# Builds resembed-train, trains (what DIR, by default out/study, already has is kept), writes DIR/study.json, and from
# it DIR/study.md, tables and pictures. Under three hours on two cores. Without --data only the generated logs run, and
# there is no study.md. --small: tiny logs, two seeds, half a minute: that everything runs, nothing more.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")/.."
source tests/setup.sh

data="" out=$PWD/out/study options=()
absolute() { case $1 in /*) echo "$1" ;; *) echo "$called_from/$1" ;; esac; }
while [ $# -gt 0 ]; do
  case $1 in
    --data) data=$(absolute "${2:?--data needs a file}"); shift 2 ;;
    --out) out=$(absolute "${2:?--out needs a folder}"); shift 2 ;;
    --small) options+=(--small); shift ;;
    *) sed -n '2,9p' docs/study.sh; exit 2 ;;
  esac
done
if [ -n "$data" ]; then
  [ -r "$data" ] || { echo "study.sh: --data is $data; needs a file that can be read" >&2; exit 2; }
  options+=(--data "$data")
fi

mkdir -p build
install_missing "${BUILD_PACKAGES[@]}" "${REPORT_PACKAGES[@]}"
python=$(python_with numpy,matplotlib)
jobs=$(processors)
say "building resembed-train with $jobs jobs"
configure build/demo -DCMAKE_BUILD_TYPE=Release -DRESEMBED_BUILD_TESTS=OFF >build/demo.configure.log ||
  { tail -n 30 build/demo.configure.log; exit 1; }
cmake --build build/demo -j "$jobs" --target resembed-train

say "training; results go to $out"
"$python" -B docs/study/run.py build/demo/host/train/resembed-train "$out" "${options[@]}"
say "writing"
"$python" -B docs/study/write.py "$out"
