#!/bin/sh
# Print the Python on PATH that `make` sets up: 3.11 or later, with venv and ensurepip; nothing where there is none.
#
# Each is tried by running it, because a version manager may put commands on PATH that only print an error. One that
# was built without profile-guided optimization, as version managers build it by default, is the last choice: it takes
# a third more CPU time for everything (3.11.7 of pyenv beside Debian's 3.11.2). Systems optimize theirs, in `/usr`.

ask='
import sys, sysconfig, venv, ensurepip
if sys.version_info < (3, 11):
    sys.exit(1)
is_optimized = sys.base_prefix == "/usr" or "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
print(int(is_optimized), sys.executable)
'

for name in python3.13 python3.12 python3.11 python3 python; do
  IFS=:
  for folder in $PATH; do
    if [ -x "$folder/$name" ]; then
      "$folder/$name" -c "$ask" 2>/dev/null
    fi
  done
done | sort -s -r -k1,1 | head -n 1 | cut -d ' ' -f 2-
