#!/usr/bin/env bash
# Restores a backup into the platform in Docker, new or not: restore.sh FILE [--replace]. What ran is started again.
# Until the last step nothing of what is there changes; killed anywhere, it can be run again.
set -euo pipefail

file=${1:?usage: deploy/backup/restore.sh FILE [--replace]}
shift
case $file in /*) ;; *) file=${BINDERY_BACKUPS:-$PWD}/$file ;; esac
cd "$(dirname "$0")/../.."
compose=${COMPOSE:-$(tools/up.sh --which)}
test -r "$file" || { echo "$file can't be read" >&2; exit 5; }

bindery() { $compose run --rm -T --no-deps backup bindery restore - "$@"; }

# The database and its roles, where this installation is new.
$compose run --rm -T migrate </dev/null >/dev/null
bindery --step check "$@" <"$file"

running=$($compose ps --services --status running | grep -vx postgres || true)
again() {
  # shellcheck disable=SC2086 # words, one service each
  if [ -n "$running" ]; then $compose start $running; fi
}
trap again EXIT
if [ -n "$running" ]; then
  # Who starts and who resumes runs goes first.
  # shellcheck disable=SC2086
  $compose stop $running
fi
project=$($compose config --format json | sed -n 's/^  "name": "\(.*\)",$/\1/p')
docker ps -aq --filter "label=bindery.project=$project" --filter label=bindery.kind | xargs -r docker rm --force >/dev/null

bindery --step prepare </dev/null
bindery --step landing <"$file"
for part in dagster:dagster warehouse:bindery; do
  echo "restoring ${part#*:}"
  bindery --step "${part%:*}" <"$file" |
    $compose exec -T -e "DATABASE=${part#*:}__restoring" postgres bash -c \
      'PGPASSWORD=$(cat /run/bindery/admin/postgres_password) exec pg_restore --no-password --exit-on-error \
         --single-transaction -h 127.0.0.1 -U postgres -d "$DATABASE"'
done
bindery --step finish </dev/null
echo "restored"
if [ -z "$running" ]; then echo "now start the platform: make up"; fi
