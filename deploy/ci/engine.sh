#!/bin/sh
# Waits until the job's engine answers, and logs in to the registry.
set -eu

tries=0
until said=$(docker version --format '{{.Server.Version}}' 2>&1); do
  tries=$((tries + 1))
  if [ "$tries" -ge 30 ]; then
    echo "no Docker engine answers at ${DOCKER_HOST:-its socket}: docs/ci.md, \"Runners\". It said: $said" >&2
    exit 1
  fi
  sleep 1
done
echo "engine $said"

if [ -n "${CI_REGISTRY_PASSWORD:-}" ]; then
  echo "$CI_REGISTRY_PASSWORD" | docker login --username "$CI_REGISTRY_USER" --password-stdin "$CI_REGISTRY"
fi
