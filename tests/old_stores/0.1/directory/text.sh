#!/bin/sh
# Write chunk $2 into the text file $1; chunk 1 fails until the file $3 is there.
set -eu
echo "chunk $2"
if [ "$2" = 1 ] && [ ! -e "$3" ]; then
  echo "chunk $2 has no ink" >&2
  exit 7
fi
echo "text of chunk $2" > "$1"
