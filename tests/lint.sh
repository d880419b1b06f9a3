#!/usr/bin/env bash
# Format and lint, with the tools that are there: lint.sh BUILD_FOLDER NOTES_FILE
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 notes=$2 status=0
skip() { printf 'may\t%s\t%s\n' "$1" "$2" >>"$notes"; }
mapfile -t sources < <(find include kernels host tests bench docs/examples -name '*.h' -o -name '*.hpp' -o -name '*.cc' -o -name '*.c' | sort)

# Every release of clang-format formats a little differently; the tree follows Debian 12's.
if ! command -v clang-format >/dev/null; then
  skip clang-format "not installed"
elif ! clang-format --version | grep -q 'version 14\.'; then
  skip clang-format "needs version 14, found $(clang-format --version)"
else
  echo "clang-format: ${#sources[@]} files"
  clang-format --dry-run -Werror "${sources[@]}" || status=1
fi

if ! command -v clang-tidy >/dev/null; then
  skip clang-tidy "not installed"
else
  mapfile -t library < <(find host -name '*.cc' -not -path 'host/train/*' -not -path 'host/graph_tool/*' -not -path 'host/torch/*' | sort)
  echo "clang-tidy: ${#library[@]} files"
  printf '%s\n' "${library[@]}" | xargs -n 1 -P "$(nproc)" clang-tidy --quiet -p "$build" \
    --extra-arg=-Wno-unknown-warning-option 2>/dev/null || status=1
fi

if ! command -v shellcheck >/dev/null; then
  skip shellcheck "not installed"
else
  mapfile -t scripts < <(find docs tests -name '*.sh')
  echo "shellcheck: ${#scripts[@]} files"
  shellcheck -x .ci/run "${scripts[@]}" || status=1
fi
exit "$status"
