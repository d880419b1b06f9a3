#!/bin/sh
# Runs a compiler and keeps what ptxas -v says in OBJECT.ptxas: keep_ptxas.sh COMPILER ... -o OBJECT ...
# Everything else the compiler says is passed on.
previous='' object=''
for word in "$@"; do
  if [ "$previous" = -o ]; then object=$word; fi
  previous=$word
done
if [ -z "$object" ]; then exec "$@"; fi
"$@" 2>"$object.ptxas"
status=$?
sed -e '/^ptxas info/d' -e '/bytes stack frame/d' -e '/^$/d' "$object.ptxas" >&2
exit $status
