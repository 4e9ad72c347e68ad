#!/bin/sh
# Runs on the server, sent there by deploy.sh:
#
#   server.sh deploy PATH TAG REGISTRY DAGSTER-DIGEST DBT-DIGEST
#   server.sh rollback PATH [TAG]          the release before this one, or the one named
#   server.sh run PATH COMMAND...          a command in the release that runs, with its names: what PATH/operate calls
#
# PATH/.env is the server's own (docs/docker.md, "Settings") and PATH/drop its drop folder. PATH/releases/TAG has each
# release's compose file, PATH/current is a link to the one that runs, PATH/history their order. Data is in volumes, which
# no release owns. A release that isn't healthy in time is taken back, and the job fails. PATH/operate is for people and
# cron: `operate make backup`; backups without a folder of their own are put into PATH/backups.
set -eu
action=${1:-} path=${2:-} tag=${3:-}
keep=${KEEP_RELEASES:-5}
patience=${HEALTHY_SECONDS:-180}
: "${path:?usage: server.sh deploy PATH TAG REGISTRY DIGEST DIGEST, or rollback PATH [TAG]}"
cd "$path"
[ -f .env ] || : >.env
# The name that begins every volume: the server's own to choose, and never a release's.
COMPOSE_PROJECT_NAME=$(sed -n 's/^COMPOSE_PROJECT_NAME=//p' .env | tail -n 1)
export COMPOSE_PROJECT_NAME="${COMPOSE_PROJECT_NAME:-bindery}"
# What is exported wins over .env.
grep -q '^BINDERY_DROP_FOLDER=.' .env || export BINDERY_DROP_FOLDER="${BINDERY_DROP_FOLDER:-$path/drop}"

# Two pipelines at once would mix their releases.
if [ "$action" != run ] && [ -z "${LOCKED:-}" ] && command -v flock >/dev/null; then
  LOCKED=yes exec flock --timeout 900 "$path/.lock" sh "$0" "$@"
fi

named() {
  registry=$(cat "releases/$1/registry")
  export BINDERY_REGISTRY="$registry" BINDERY_TAG="$1" BINDERY_COMMIT="$1" BINDERY_PULL_POLICY=never
}

compose() {
  release=$1
  shift
  named "$release"
  docker compose --env-file .env --project-directory "releases/$release" --file "releases/$release/docker-compose.yml" "$@"
}

# Services that aren't up: one that ended badly, starts again and again, or isn't healthy (yet).
unwell() {
  docker ps --all --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
    --filter label=com.docker.compose.service \
    --format '{{.Label "com.docker.compose.service"}} {{.State}} {{.Status}}' |
    awk '$2 == "exited" && $0 !~ /Exited \(0\)/ || $2 != "exited" && $2 != "running" || /unhealthy|health: starting/ { print $1 }'
}

start() {
  mkdir -p drop/ratings drop/sample
  compose "$1" up --detach --no-build --remove-orphans || return 1
  waited=0
  while [ -n "$(unwell)" ]; do
    if [ "$waited" -ge "$patience" ]; then
      echo "not well after $patience s: $(unwell | tr '\n' ' ')" >&2
      return 1
    fi
    sleep 2
    waited=$((waited + 2))
  done
  ln -sfn "releases/$1" current
  # Where compose looks for it, whoever calls compose there.
  ln -sf ../../.env "releases/$1/.env"
  printf '#!/bin/sh\nexec sh %s/current/deploy/ci/server.sh run %s "$@"\n' "$path" "$path" >operate.new
  chmod +x operate.new
  mv operate.new operate
}

previous() {
  [ -f history ] || return 0
  running=$(basename "$(readlink current)")
  awk -v now="$running" '$0 == now { print last; exit } { last = $0 }' history
}

case $action in
  deploy)
    registry=${4:?is the registry} dagster=${5:?is a digest} dbt=${6:?is a digest}
    echo "$registry" >"releases/$tag/registry"
    for image in "dagster@$dagster" "dbt@$dbt"; do
      # By digest, which is what was signed; then under the name that compose and the steps use.
      docker pull --quiet "${registry}bindery/$image"
      docker tag "${registry}bindery/$image" "${registry}bindery/${image%%@*}:$tag"
    done
    before=
    [ ! -L current ] || before=$(basename "$(readlink current)")
    if ! start "$tag"; then
      compose "$tag" logs --no-color --tail 50 >&2 || true
      if [ -n "$before" ] && [ "$before" != "$tag" ]; then
        echo "taking $tag back: $before" >&2
        start "$before" || echo "$before doesn't come up either: docs/docker.md, \"Trouble\"" >&2
      fi
      exit 1
    fi
    touch history
    { grep -vxF "$tag" history || true; echo "$tag"; } >history.new
    tail -n "$keep" history.new >history
    for folder in releases/*; do
      old=$(basename "$folder")
      if ! grep -qxF "$old" history && [ "$old" != "$tag" ]; then
        docker image rm "${registry}bindery/dagster:$old" "${registry}bindery/dbt:$old" >/dev/null 2>&1 || true
        rm -r "$folder"
      fi
    done
    rm history.new
    echo "runs: $tag"
    ;;
  rollback)
    to=${tag:-$(previous)}
    if [ -z "$to" ] || [ ! -d "releases/$to" ]; then
      echo "there is no release ${to:-before this one}; there are: $(ls releases | tr '\n' ' ')" >&2
      exit 1
    fi
    start "$to"
    echo "runs: $to"
    ;;
  run)
    [ -L current ] || { echo "nothing is deployed to $path yet" >&2; exit 1; }
    shift 2
    [ "$#" -gt 0 ] || { echo "usage: operate COMMAND..., as in: operate make backup" >&2; exit 2; }
    running=$(basename "$(readlink current)")
    named "$running"
    mkdir -p -m 0700 backups
    export BINDERY_BACKUPS="$path/backups"
    cd "releases/$running"
    exec "$@"
    ;;
  *)
    echo "server.sh: deploy, rollback or run, not '$action'" >&2
    exit 2
    ;;
esac
