# Runs in the database's container: dumps both databases into one pipe, which operations/backup/frames.py reads.
# Dagster's first: the warehouse may know of more than Dagster's history does, never of less.
set -eo pipefail
PGPASSWORD=$(cat /run/bindery/admin/postgres_password)
export PGPASSWORD PGHOST=127.0.0.1 PGUSER=postgres
for database in dagster bindery; do
  echo "begin $database"
  pg_dump --no-password --format=custom --compress=4 --lock-wait-timeout=600000 "$database" | base64 -w 0
  echo
done
echo end
