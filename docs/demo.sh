#!/usr/bin/env bash
# From a behavior log to an interest graph, trained residual embeddings and a report.
#
#   bash docs/demo.sh [--data FILE.tsv|csv[.gz]] [--catalog FILE] [--out DIR] [--seeds N] [options of resembed-train]
#
# Without --data a log is generated whose true interests are known. Installs what is missing (Debian, root or
# sudo), builds resembed-train below build/, runs all variants and both heads. The report goes to --out: by
# default out/<name of the log>, or out/demo without one. Safe to run twice.
set -euo pipefail
called_from=$PWD
cd "$(dirname "$0")/.."
source tests/setup.sh

data="" catalog="" out="" options=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,8p' docs/demo.sh; exit 0 ;;
    --data=* | --catalog=* | --out=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    --data | --catalog | --out)
      [ $# -ge 2 ] || { echo "demo.sh: $1 needs a value" >&2; exit 2; }
      case $1 in
        --data) data=$2 ;;
        --catalog) catalog=$2 ;;
        *) out=$2 ;;
      esac
      shift 2
      ;;
    *) options+=("$1"); shift ;;
  esac
done

# Paths are those of the folder the user stands in.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$called_from/$1" ;; esac; }
name=demo
if [ -n "$data" ]; then
  data=$(absolute "$data")
  [ -r "$data" ] || { echo "demo.sh: --data is $data; needs a file that can be read" >&2; exit 2; }
  name=$(basename "$data")
  name=${name%.gz} name=${name%.tsv} name=${name%.csv}
  options+=(--data "$data")
fi
if [ -n "$catalog" ]; then options+=(--catalog "$(absolute "$catalog")"); fi
if [ -n "$out" ]; then out=$(absolute "$out"); else out=$PWD/out/$name; fi
mkdir -p "$out" build

install_missing "${BUILD_PACKAGES[@]}" "${REPORT_PACKAGES[@]}"
python_with numpy,matplotlib >/dev/null

jobs=$(processors)
say "building resembed-train with $jobs jobs"
configure build/demo -DCMAKE_BUILD_TYPE=Release -DRESEMBED_BUILD_TESTS=OFF >build/demo.configure.log ||
  { tail -n 30 build/demo.configure.log; exit 1; }
cmake --build build/demo -j "$jobs" --target resembed-train

say "training; the report goes to $out"
build/demo/host/train/resembed-train --out "$out" "${options[@]}"
