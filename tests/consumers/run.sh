#!/usr/bin/env bash
# Builds and runs one kind of consumer. Everything it makes lies below WORK.
#   run.sh install SOURCE BUILD WORK             installs BUILD to WORK/prefix, by way of another folder
#   run.sh c11|headers|find_package|examples|pkg_config SOURCE WORK
#   run.sh add_subdirectory SOURCE WORK          builds the static library, then installs and uses that as well
set -euo pipefail
kind=$1 source=$2 work=${!#}
here=$source/tests/consumers
prefix=$work/prefix
strict=(-Wall -Wextra -Wpedantic -Werror)
export CMAKE_BUILD_PARALLEL_LEVEL=2

run() {
  echo "+ $*"
  "$@"
}

# find_package OUT PREFIX: configures, builds and runs the find_package project
find_package() {
  run cmake -S "$here/find_package" -B "$1" -DCMAKE_PREFIX_PATH="$2"
  run cmake --build "$1"
  run "$1/tiny_step_c"
  run "$1/tiny_step_cc"
}

mkdir -p "$work"
case $kind in
  install)
    rm -rf "$prefix" "$work/elsewhere"
    run cmake --install "$3" --prefix "$work/elsewhere"
    run mv "$work/elsewhere" "$prefix"  # an install that still works has no path of its own in it
    if grep -rlI "$work/elsewhere" "$prefix"; then echo "files above name the prefix they were installed to"; exit 1; fi
    ;;
  c11)
    run gcc -std=c11 "${strict[@]}" -Wconversion "$here/tiny_step.c" -I "$prefix/include" -L "$prefix/lib" \
      -lresembed -Wl,-rpath,"$prefix/lib" -o "$work/tiny_step_c11"
    run "$work/tiny_step_c11"
    ;;
  headers)
    for header in types.h resembed.h; do
      echo "#include <resembed/$header>" >"$work/one.c"
      run gcc -std=c11 "${strict[@]}" -fsyntax-only -I "$prefix/include" "$work/one.c"
      run g++ -std=c++17 "${strict[@]}" -fsyntax-only -I "$prefix/include" -x c++ "$work/one.c"
    done
    # Twice in one program: everything in the C++ header is inline.
    for unit in one two; do
      echo "#include <resembed/resembed.hpp>" >"$work/$unit.cc"
      run g++ -std=c++17 "${strict[@]}" -c -I "$prefix/include" "$work/$unit.cc" -o "$work/$unit.o"
    done
    echo "int main() {}" >"$work/main.cc"
    run g++ -std=c++17 "$work/main.cc" "$work/one.o" "$work/two.o" -L "$prefix/lib" -lresembed -o "$work/twice"
    ;;
  find_package)
    find_package "$work/find_package" "$prefix"
    ;;
  examples)
    run cmake -S "$source/docs/examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$prefix"
    run cmake --build "$work/examples"
    for example in "$source"/docs/examples/*.cc; do
      program=$work/examples/$(basename "$example" .cc)
      if [ "$(basename "$program")" = torchscript_load ]; then
        echo "torchscript_load: needs torch; the test of that name beside the adapter builds and runs it"
      elif [ "$(basename "$program")" = training_loop ] && [ ! -x "$program" ]; then
        echo "training_loop: not built, the CUDA toolkit is not there"
      else
        status=0
        run "$program" || status=$?
        [ "$status" = 0 ] || [ "$status" = 77 ] # 77: needs a GPU
      fi
    done
    ;;
  pkg_config)
    export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
    mkdir -p "$work/pkg_config"
    run make -B -C "$here/pkg_config" OUT="$work/pkg_config"
    run "$work/pkg_config/tiny_step"
    ;;
  add_subdirectory)
    run cmake -S "$here/add_subdirectory" -B "$work/add_subdirectory" -DRESEMBED_SOURCE_DIR="$source" \
      -DCMAKE_BUILD_TYPE=Release -DRESEMBED_INSTALL=ON ${LAUNCHER:+-DCMAKE_CXX_COMPILER_LAUNCHER="$LAUNCHER" -DCMAKE_CUDA_COMPILER_LAUNCHER="$LAUNCHER"}
    run cmake --build "$work/add_subdirectory"
    run "$work/add_subdirectory/tiny_step_c"
    run "$work/add_subdirectory/tiny_step_cc"
    run cmake --install "$work/add_subdirectory" --prefix "$work/static_prefix"
    find_package "$work/find_package_static" "$work/static_prefix"
    ;;
  *)
    echo "unknown consumer: $kind" >&2
    exit 2
    ;;
esac
