#!/bin/sh
# Makes Temporal's two databases and brings their tables up to date; safe to run again, and needed at each upgrade.
# Reads SQL_PLUGIN, SQL_HOST, SQL_PORT, SQL_USER and SQL_PASSWORD, as temporal-sql-tool does.
set -eu

make_database() {
  temporal-sql-tool --database "$1" create-database
  temporal-sql-tool --database "$1" setup-schema -v 0.0
  temporal-sql-tool --database "$1" update-schema --schema-name "postgresql/v12/$2"
}

make_database "${DBNAME:-temporal}" temporal
make_database "${VISIBILITY_DBNAME:-temporal_visibility}" visibility
