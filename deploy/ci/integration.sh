#!/bin/sh
# Brings the platform up from the images of this commit, waits for its first run, and compares every table with those
# that a laptop made: integration.sh tables.json. What services said is in integration.log where it fails.
#
#   BINDERY_REGISTRY, BINDERY_TAG     the images
#   SHARED_FOLDER                     a folder with the same path in this job and on the engine's machine; needed where
#                                     the engine is the runner's own, which can't mount files of a job's container
set -eu
reference=$(realpath "${1:?is the file that python -m tests.tables wrote}")
job=$PWD
export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-ci-${CI_JOB_ID:-$$}}"
# Any free port: nobody looks at the UI here, and jobs may share a machine.
export BINDERY_PORT="${BINDERY_PORT:-0}"
tests=${BINDERY_REGISTRY:-}bindery/test:${BINDERY_TAG:?}
folder=$job
if [ -n "${SHARED_FOLDER:-}" ]; then
  folder=$SHARED_FOLDER/$COMPOSE_PROJECT_NAME
  mkdir -p "$folder/deploy"
  cp docker-compose.yml "$folder"
  cp -r deploy/proxy "$folder/deploy"
fi
# Compose takes the drop folder from PWD, which a shell may not export.
export BINDERY_DROP_FOLDER="$folder/drop"
mkdir -p "$folder/drop/ratings" "$folder/drop/sample"
chmod -R a+rX "$folder"

end() {
  code=$?
  cd "$folder"
  [ "$code" = 0 ] || docker compose logs --no-color >"$job/integration.log" 2>&1 || true
  docker compose stop --timeout 5 daemon supervisor >/dev/null 2>&1 || true
  docker ps --all --quiet --filter "label=bindery.project=$COMPOSE_PROJECT_NAME" --filter label=bindery.kind |
    xargs -r docker rm --force >/dev/null || true
  docker compose down --volumes --timeout 5 >/dev/null 2>&1 || true
  [ "$folder" = "$job" ] || rm -rf "$folder"
  exit "$code"
}
trap end EXIT

cd "$folder"
docker compose up --detach --no-build
network=$COMPOSE_PROJECT_NAME-platform
docker run --rm --network "$network" "$tests" python -m tests.tables wait http://webserver:3000/graphql
docker run --rm --interactive --network "$network" --volume "$COMPOSE_PROJECT_NAME-secrets-admin:/run/bindery/admin:ro" \
  --env BINDERY_DATABASE_URL_FILE=/run/bindery/admin/database_url "$tests" \
  python -m tests.tables compare /dev/stdin <"$reference"
