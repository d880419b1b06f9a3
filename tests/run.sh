#!/usr/bin/env bash
# Installs what is missing, builds, runs the tests, and says what was not run and why.
#
#   bash tests/run.sh          library, trainer and tree tests, consumers; the torch tests where Python imports torch
#   bash tests/run.sh --all    and the same tests under ASan + UBSan and TSan, a short run of every benchmark,
#                              the torch tests in a virtual environment of their own, the kernels for every GPU
#                              that is supported, format and lint
#
# With CI=true an entry that must run (sanitizers, consumers, the Python client, the report, torch) and did not
# is a failure. Everything is built below build/; safe to run twice.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/setup.sh

all=0
case "${1:-}" in
  "") ;;
  --all) all=1 ;;
  *) sed -n '2,11p' "$0"; exit 2 ;;
esac

# Ends with the list of what was not run, whatever happened before.
notes=build/not_run.txt
failed=()
start=$SECONDS
not_run() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$notes"; }  # must|may, what, why
finish() {
  local status=$? must=0 what why kind
  trap - EXIT
  say "not run"
  if [ -s "$notes" ]; then
    while IFS=$'\t' read -r kind what why; do
      echo "  $what: $why"
      if [ "$kind" = must ]; then must=$((must + 1)); fi
    done <"$notes"
  else
    echo "  nothing"
  fi
  if [ "$must" -gt 0 ] && [ "${CI:-}" = true ]; then
    echo "CI must run $must of these"
    status=1
  fi
  if [ ${#failed[@]} -gt 0 ]; then
    echo "FAILED: ${failed[*]}"
    status=1
  fi
  echo "tests/run.sh: $([ "$status" = 0 ] && echo passed || echo FAILED) after $((SECONDS - start)) s"
  exit "$status"
}
mkdir -p build
: >"$notes"
trap finish EXIT

packages=("${BUILD_PACKAGES[@]}" "${REPORT_PACKAGES[@]}" "${TEST_PACKAGES[@]}")
if [ "$all" = 1 ]; then packages+=("${BENCH_PACKAGES[@]}" "${CACHE_PACKAGES[@]}" "${RACE_PACKAGES[@]}" "${TORCH_PACKAGES[@]}"); fi
install_missing "${packages[@]}"
python=$(python_with numpy,matplotlib)
jobs=$(processors)

# build PRESET [OPTION...]: configures build/PRESET and builds it, or $target of it
build() {
  local preset=$1
  shift
  say "building build/$preset with $jobs jobs"
  configure "build/$preset" --preset "$preset" -DRESEMBED_PYTHON="$python" "$@" >"build/$preset.configure.log" ||
    { tail -n 30 "build/$preset.configure.log"; return 1; }
  cmake --build "build/$preset" -j "$jobs" --target "${target:-all}"
}

# check PRESET [CTEST ARGUMENT...]: runs the tests of build/PRESET; what ran nothing goes on the list
check() {
  local preset=$1
  shift
  say "tests of build/$preset"
  "${launcher[@]}" ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error \
    --output-junit results.xml --test-output-size-passed 10000000 "$@" || failed+=("$preset")
  "$python" -B tests/not_run.py "$preset" "build/$preset/results.xml" >>"$notes"
}

# check_torch PYTHON: the adapter for the torch of PYTHON, its tests and those of the Python package
check_torch() {
  build torch -DRESEMBED_PYTHON="$1" || return 1
  check torch
  say "tests of the Python package with $1"
  bash tests/torch/run.sh "$1" build/torch/libresembed_torch.so "$notes"
}

launcher=()
build cpu && check cpu || failed+=(cpu)
nvcc=1
if ! grep -q '^CMAKE_CUDA_COMPILER:[A-Z]*=/' build/cpu/CMakeCache.txt; then
  nvcc=0
  not_run may "cuda backend compiled by nvcc" "no nvcc that works was found"
fi
emulated=1
if ! grep -q '^RESEMBED_CUDA_INCLUDE:PATH=/' build/cpu/CMakeCache.txt; then
  emulated=0
  not_run may "kernels on the CPU (emulated tests)" "the CUDA toolkit's headers are not there"
fi
if [ "$all" = 1 ]; then
  if with_torch=$(torch_python "$python" build/torch-venv); then
    check_torch "$with_torch" || failed+=(torch)
  else
    not_run must "torch tests" "no virtual environment with ${TORCH_PYTHON_PACKAGES[*]} could be made"
  fi
elif with_torch=$(python_with torch,hypothesis 2>/dev/null); then
  check_torch "$with_torch" || failed+=(torch)
elif python_with torch >/dev/null 2>&1; then
  not_run may "torch tests" "hypothesis cannot be imported; tests/run.sh --all makes an environment of its own"
else
  not_run may "torch tests" "torch cannot be imported; tests/run.sh --all makes an environment of its own"
fi
if [ "$all" = 0 ]; then
  not_run may "sanitizers, benchmarks, format and lint" "tests/run.sh --all runs them"
else
  build asan -DRESEMBED_ENABLE_CUDA=OFF -DCMAKE_CXX_COMPILER=g++ &&
    UBSAN_OPTIONS=print_stacktrace=1 check asan || failed+=(asan)

  # ThreadSanitizer of GCC 12 wants addresses where kernels with much randomization do not put them.
  if setarch "$(uname -m)" -R true 2>/dev/null; then launcher=(setarch "$(uname -m)" -R); fi
  build tsan -DRESEMBED_ENABLE_CUDA=OFF -DCMAKE_CXX_COMPILER=g++ && check tsan || failed+=(tsan)
  if ! command -v clang++-14 >/dev/null; then
    not_run may "emulated kernels under ThreadSanitizer" "clang++-14 is not installed"
  elif [ "$emulated" = 1 ]; then
    target=emulated_tests build tsan-emulated && check tsan-emulated -L emulated || failed+=(tsan-emulated)
  fi
  launcher=()

  build bench && bash tests/bench_smoke.sh build/bench || failed+=(bench)
  if [ "$nvcc" = 1 ]; then
    target=resembed_train_device build release && "$python" -B kernels/manifest.py --spills build/release || failed+=(release)
  fi
  bash tests/lint.sh build/cpu "$notes" || failed+=(lint)
fi
if ! compgen -G "/dev/nvidia[0-9]*" >/dev/null; then
  not_run may "kernels on a GPU" "none on this machine; tests/gpu/check runs them where there is one"
fi
