#!/bin/sh
# What `make up` does: brings the platform up, and says in one sentence what is missing where that can't be.
#
# usage: tools/up.sh [OPTIONS OF docker compose up...]
#        tools/up.sh --which      prints the compose command of this machine
#        tools/up.sh --address    prints where the UI is now, by what compose knows: the environment and .env
set -u

fail() {
  echo "bindery: $*" >&2
  exit 1
}

# The plugin, or the program of that name (version 2; the first one can't read the file).
which_compose() {
  if docker compose version >/dev/null 2>&1; then
    echo docker compose
  elif docker-compose version --short 2>/dev/null | grep -q '^v\{0,1\}[2-9]'; then
    echo docker-compose
  else
    return 1
  fi
}

if ! compose=$(which_compose); then
  command -v docker >/dev/null 2>&1 ||
    fail "Docker isn't installed; https://docs.docker.com/engine/install says how, and make run needs none"
  fail "docker has no compose (version 2): install the package docker-compose-plugin (docker-compose-v2 on Ubuntu)"
fi
if [ "${1:-}" = --which ]; then
  echo "$compose"
  exit 0
fi

# The scheme and the host name as the proxy has them, the port as it is published.
address() {
  published=$($compose port proxy 3000 2>/dev/null | head -n 1)
  port=${published##*:} bind=${published%:*}
  case $port in '' | 0 | *[!0-9]*) return 1 ;; esac
  site=$($compose config 2>/dev/null | sed -n "s/^ *SITE: *[\"']*\([^\"']*\).*/\1/p" | head -n 1)
  case $site in
    https://*) scheme=https host=${site#https://} host=${host%:3000} usual=443 ;;
    *)
      scheme=http host=$bind usual=80
      case $bind in 0.0.0.0 | 127.* | *::*) host=localhost ;; esac
      ;;
  esac
  [ "$port" = "$usual" ] && echo "$scheme://$host" || echo "$scheme://$host:$port"
}

if [ "${1:-}" = --address ]; then
  address || fail "the proxy isn't running: make up starts it, make ps shows what runs"
  exit 0
fi

if command -v docker >/dev/null 2>&1; then
  said=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) || case $said in
    *"permission denied"*) fail "this user may not use Docker: sudo usermod -aG docker $(id -un), then log in again" ;;
    *) fail "no Docker engine answers at ${DOCKER_HOST:-its socket}: start it (sudo systemctl start docker), or set DOCKER_HOST" ;;
  esac
elif ! $compose ls >/dev/null 2>&1; then
  fail "no Docker engine answers at ${DOCKER_HOST:-its socket}: start it (sudo systemctl start docker), or set DOCKER_HOST"
fi

$compose up --detach "$@" && exit 0
code=$?
missing=
if command -v docker >/dev/null 2>&1; then
  for image in $($compose config --images 2>/dev/null | sort -u); do
    docker image inspect "$image" >/dev/null 2>&1 || missing="$missing $image"
  done
fi
[ -z "$missing" ] || fail "no image$missing: it could be neither pulled nor built; is the name right, the registry reachable, and are you logged in there (docker login)?"
echo "bindery: compose ended with code $code; what it said is above, and make ps and make logs say more" >&2
exit "$code"
