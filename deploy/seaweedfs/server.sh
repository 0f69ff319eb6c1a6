#!/bin/sh
# Runs SeaweedFS as one process with an S3 endpoint at $S3_BIND:$S3_LISTEN_PORT; arguments are passed on to it.
#
# Two keys: that of the administrator (S3_ADMIN_ACCESS_KEY, S3_ADMIN_SECRET_KEY), which makes the bucket, and that of
# the workers (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), which reads and writes the bucket `longtake` and nothing else.
# Data lies in $S3_DATA. Its parts talk to each other on seven ports of loopback from $S3_INTERNAL_PORT on.
set -eu

for value in "$S3_ADMIN_ACCESS_KEY" "$S3_ADMIN_SECRET_KEY" "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"; do
  case $value in
    '' | *[!A-Za-z0-9/+=_-]*)
      echo "S3_ADMIN_ACCESS_KEY, S3_ADMIN_SECRET_KEY, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be letters," \
        "digits and /+=_- alone: mend them in .env" >&2
      exit 2
      ;;
  esac
done

mkdir -p "$S3_DATA/volumes"
umask 077
# Keys go through a file: arguments are shown to everybody on the host.
cat >"$S3_DATA/identities.json" <<END
{"identities": [
  {"name": "admin", "actions": ["Admin"],
   "credentials": [{"accessKey": "$S3_ADMIN_ACCESS_KEY", "secretKey": "$S3_ADMIN_SECRET_KEY"}]},
  {"name": "worker", "actions": ["Read:longtake", "Write:longtake", "List:longtake"],
   "credentials": [{"accessKey": "$AWS_ACCESS_KEY_ID", "secretKey": "$AWS_SECRET_ACCESS_KEY"}]}
]}
END

# SeaweedFS takes a key that it finds in these for that of one more administrator.
unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

# With these keys the parts refuse whoever comes past the S3 endpoint by HTTP. New ones at each start: nobody else
# needs them.
key() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
WEED_JWT_SIGNING_KEY=$(key)
WEED_JWT_SIGNING_READ_KEY=$(key)
WEED_JWT_FILER_SIGNING_KEY=$(key)
WEED_JWT_FILER_SIGNING_READ_KEY=$(key)
export WEED_JWT_SIGNING_KEY WEED_JWT_SIGNING_READ_KEY WEED_JWT_FILER_SIGNING_KEY WEED_JWT_FILER_SIGNING_READ_KEY

inside=$S3_INTERNAL_PORT
# -volume.max=0: as many volumes as the disk has room for. The election timeout is what a restart waits for.
exec weed -logtostderr=true server -dir="$S3_DATA/volumes" \
  -ip=127.0.0.1 -ip.bind=127.0.0.1 \
  -master.port="$inside" -master.port.grpc=$((inside + 1)) -master.electionTimeout=1s -master.telemetry=false \
  -master.volumeSizeLimitMB=1024 \
  -volume.port=$((inside + 2)) -volume.port.grpc=$((inside + 3)) -volume.max=0 -volume.preStopSeconds=1 \
  -filer -filer.port=$((inside + 4)) -filer.port.grpc=$((inside + 5)) \
  -s3 -s3.ip.bind="$S3_BIND" -s3.port="$S3_LISTEN_PORT" -s3.port.grpc=$((inside + 6)) \
  -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false -s3.allowDeleteBucketNotEmpty=false \
  -s3.config="$S3_DATA/identities.json" \
  "$@"
