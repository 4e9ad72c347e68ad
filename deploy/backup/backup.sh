#!/usr/bin/env bash
# Backs up the platform in Docker: backup.sh FILE [--no-landing]. Runs may go on. What is in it: docs/operating.md.
set -euo pipefail

file=${1:?usage: deploy/backup/backup.sh FILE [--no-landing]}
shift
case $file in /*) ;; *) file=${BINDERY_BACKUPS:-$PWD}/$file ;; esac
cd "$(dirname "$0")/../.."
compose=${COMPOSE:-$(tools/up.sh --which)}

if [ -e "$file" ]; then
  echo "$file is there already: choose another name, or delete it" >&2
  exit 5
fi
umask 077
partial=$file.partial-$$
trap 'rm -f "$partial"' EXIT
# Without terminals in between, which would change bytes. What breaks off has no end, and is refused.
$compose exec -T postgres bash -s <deploy/backup/dump.sh |
  $compose run --rm -T --no-deps backup bindery backup --frames "$@" - >"$partial"
sync "$partial" 2>/dev/null || sync
mv -n "$partial" "$file"
echo "$file: $(wc -c <"$file" | tr -d ' ') bytes"
