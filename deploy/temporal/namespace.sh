#!/bin/sh
# Makes the namespace of the farm and the search attributes of its jobs; safe to run again.
# Reads TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE, as the temporal command does, and TEMPORAL_NAMESPACE_RETENTION.
set -eu

namespace=${TEMPORAL_NAMESPACE:-default}

if ! temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1; then
  temporal operator namespace create --namespace "$namespace" --retention "${TEMPORAL_NAMESPACE_RETENTION:-30d}"
fi

# Each part of the server reads of a new namespace within 10 seconds.
tries=60
until temporal operator search-attribute create --namespace "$namespace" \
  --name LongtakeState --type Keyword \
  --name LongtakeName --type Keyword \
  --name LongtakeProgress --type Double; do
  tries=$((tries - 1))
  [ "$tries" -gt 0 ] || exit 1
  sleep 0.5
done
