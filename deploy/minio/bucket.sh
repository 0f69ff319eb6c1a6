#!/bin/sh
# Makes the bucket of the farm and the account of its workers, which may use that bucket and nothing else; safe to run
# again. Reads S3_ENDPOINT, MINIO_ROOT_USER, MINIO_ROOT_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. The
# policy lies beside this script.
set -eu

here=$(dirname "$0")
MC_CONFIG_DIR=$(mktemp -d)
export MC_CONFIG_DIR
trap 'rm -rf "$MC_CONFIG_DIR"' EXIT

# Keys go through pipes: arguments are shown to everybody on the host.
printf '%s\n%s\n' "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" | mc --quiet alias set farm "$S3_ENDPOINT" >/dev/null
mc --quiet mb --ignore-existing farm/longtake
printf '%s\n%s\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" | mc --quiet admin user add farm
mc --quiet admin policy create farm longtake-worker "$here/worker-policy.json"
# Attaching what is attached already is an error to mc.
case $(mc --quiet admin user info farm "$AWS_ACCESS_KEY_ID") in
  *longtake-worker*) ;;
  *) mc --quiet admin policy attach farm longtake-worker --user "$AWS_ACCESS_KEY_ID" ;;
esac
