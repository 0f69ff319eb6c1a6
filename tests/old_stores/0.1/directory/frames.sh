#!/bin/sh
# Render frames $2 to $2+$3-1 as BMP files named by the pattern $1; stand in the middle of frame $4 until the file $5 is there.
set -eu
echo "frames $2 $3"
frame=$2
while [ "$frame" -lt $(($2 + $3)) ]; do
  pixel=$(printf '\\%03o\\200\\%03o' $((frame * 20 % 256)) $((255 - frame * 20 % 256)))
  half=$pixel
  for _ in 1 2 3 4 5 6 7; do half=$half$half; done
  file=$(printf "$1" "$frame")
  # 16 x 16 pixels of 24 bits: 54 bytes of headers, 768 of pixels.
  {
    printf 'BM\066\003\000\000\000\000\000\000\066\000\000\000\050\000\000\000\020\000\000\000\020\000\000\000'
    printf '\001\000\030\000\000\000\000\000\000\003\000\000\023\013\000\000\023\013\000\000\000\000\000\000\000\000\000\000'
    printf "$half"
  } > "$file"
  if [ "$frame" = "$4" ] && [ ! -e "$5" ]; then
    echo "waiting in frame $frame"
    until [ -e "$5" ]; do sleep 0.05; done
  fi
  printf "$half" >> "$file"
  frame=$((frame + 1))
done
