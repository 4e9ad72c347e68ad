#!/bin/sh
# Deploys to one server over ssh, or takes it back: deploy.sh deploy TAG | deploy.sh rollback [TAG]
#
#   DEPLOY_HOST        user@host or ssh://user@host:port, of a user who may use Docker
#   DEPLOY_PATH        folder there; /srv/bindery
#   DEPLOY_SSH_KEY, DEPLOY_KNOWN_HOSTS     variables of type file: the key, and the server's own (ssh-keyscan, once)
#   CI_DEPLOY_USER, CI_DEPLOY_PASSWORD     the project's deploy token (read_registry), with which the server pulls
#
# Signatures are verified here, where the key is; the server gets digests, so it runs what was signed whatever a tag says.
set -eu
action=${1:-} tag=${2:-}
folder=$(dirname "$0")
: "${DEPLOY_HOST:?is not set: user@host of the server (docs/ci.md)}"
path=${DEPLOY_PATH:-/srv/bindery}
patience=${HEALTHY_SECONDS:-180} keep=${KEEP_RELEASES:-5}

case $tag in *[!A-Za-z0-9._-]*) echo "deploy.sh: '$tag' is no tag" >&2; exit 2 ;; esac
case $path in /*[!A-Za-z0-9/._-]* | [!/]*) echo "deploy.sh: DEPLOY_PATH is '$path': a plain absolute path" >&2; exit 2 ;; esac
case $patience$keep in *[!0-9]*) echo "deploy.sh: HEALTHY_SECONDS and KEEP_RELEASES are numbers" >&2; exit 2 ;; esac

settings="HEALTHY_SECONDS=$patience KEEP_RELEASES=$keep"

server() {
  ssh -i "${DEPLOY_SSH_KEY:?is not set}" -o BatchMode=yes -o StrictHostKeyChecking=yes \
    -o UserKnownHostsFile="${DEPLOY_KNOWN_HOSTS:?is not set}" "$DEPLOY_HOST" "$@"
}

case $action in
  deploy)
    dagster=$(sh "$folder/sign.sh" verify "${BINDERY_REGISTRY:?}bindery/dagster:${tag:?which tag?}")
    dbt=$(sh "$folder/sign.sh" verify "${BINDERY_REGISTRY}bindery/dbt:$tag")
    tar -c docker-compose.yml Makefile tools/up.sh deploy/proxy deploy/backup deploy/ci/server.sh |
      server "mkdir -p $path/releases/$tag && tar -x -C $path/releases/$tag"
    if [ -n "${CI_DEPLOY_PASSWORD:-}" ]; then
      echo "$CI_DEPLOY_PASSWORD" | server "docker login --username '$CI_DEPLOY_USER' --password-stdin '$CI_REGISTRY'"
    fi
    server "$settings sh $path/releases/$tag/deploy/ci/server.sh deploy $path $tag $BINDERY_REGISTRY $dagster $dbt"
    ;;
  rollback)
    server "$settings sh $path/current/deploy/ci/server.sh rollback $path $tag"
    ;;
  *)
    echo "deploy.sh: deploy TAG or rollback [TAG], not '$action'" >&2
    exit 2
    ;;
esac
