#!/bin/sh
# Creates the role with which Grafana reads, in the first start of the database of compose.yaml. It may read nothing
# until somebody grants it the two views: docs/operate.md, "Containers".

set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$(cat /run/secrets/grafana-database-password)" <<'END'
CREATE ROLE grafana LOGIN PASSWORD :'password';
ALTER ROLE grafana SET default_transaction_read_only = on;
END
