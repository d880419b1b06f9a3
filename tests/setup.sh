# shellcheck shell=bash disable=SC2034
# What docs/demo.sh and tests/run.sh share: Debian packages, the Python to use, configuring and building.
# Sourced, not run; the caller has set -euo pipefail and stands in the project's root.

BUILD_PACKAGES=(g++ cmake ninja-build nlohmann-json3-dev zlib1g-dev libeigen3-dev libcli11-dev)
REPORT_PACKAGES=(python3 python3-numpy python3-matplotlib)
TEST_PACKAGES=(libgtest-dev libgmock-dev make pkg-config)
BENCH_PACKAGES=(libbenchmark-dev)
CACHE_PACKAGES=(ccache) # build folders of one compiler and the same options compile a file once
RACE_PACKAGES=(clang-14 libclang-rt-14-dev) # ThreadSanitizer for the emulated kernels
TORCH_PACKAGES=(python3-venv)
TORCH_PYTHON_PACKAGES=(torch==2.11.0 numpy hypothesis) # 4.7 GB in a virtual environment

say() { printf '\n== %s\n' "$*"; }

# install_missing PACKAGE...: with apt, as root or through sudo; otherwise says which ones to install.
install_missing() {
  local missing=() package
  command -v dpkg-query >/dev/null || {
    echo "not Debian (no dpkg): taking it that the equivalents of these are there: $*" >&2
    return 0
  }
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo)
    elif command -v sudo >/dev/null && [ -t 0 ]; then
      echo "sudo will ask for your password to install: ${missing[*]}"
      as_root=(sudo)
    else
      echo "missing packages, and neither root nor sudo to install them. Run as root:" >&2
      echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
      return 1
    fi
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "apt-get could not install: ${missing[*]}" >&2
    return 1
  fi
  rm -f "$log"
}

# python_with MODULE,MODULE: the first python3 that can import them; the one on PATH may not be Debian's.
python_with() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c "import $1" 2>/dev/null; then
      command -v "$candidate"
      return 0
    fi
  done
  echo "no python3 can import $1" >&2
  return 1
}

# torch_python PYTHON FOLDER: the Python of a virtual environment with torch and what its tests import, made in FOLDER
# by PYTHON where it is not there.
torch_python() {
  local own=$2/bin/python
  if ! "$own" -c "import torch, numpy, hypothesis" 2>/dev/null; then
    say "installing ${TORCH_PYTHON_PACKAGES[*]} into $2" >&2
    "$1" -m venv --clear "$2" >&2 && "$own" -m pip install -q "${TORCH_PYTHON_PACKAGES[@]}" >&2 || return 1
  fi
  realpath -s "$own"
}

# configure FOLDER OPTION...: CMake, with Ninja and ccache where they are.
configure() {
  local folder=$1 options=()
  shift
  if [ ! -e "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null; then options+=(-G Ninja); fi
  if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache -DCMAKE_CUDA_COMPILER_LAUNCHER=ccache); fi
  cmake -S . -B "$folder" "${options[@]}" "$@"
}

# processors: how many jobs to run at once; one for every 1.5 GB of free memory, at most one for each core.
processors() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  if [ "$memory" -lt 1 ]; then memory=1; fi
  echo $((cores < memory ? cores : memory))
}
