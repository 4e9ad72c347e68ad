#!/bin/sh
# Builds the images of a commit and pushes them, so that every runner has them. Writes images.env: their digests.
#
#   BINDERY_REGISTRY, BINDERY_TAG   where to and under which tag: <registry>bindery/dagster:<tag>
#   BUILD_CACHE                     registry: layers are kept there, for engines that begin empty; engine: it keeps them
set -eu
: "${BINDERY_REGISTRY:?is the registry with its slash, as in registry.example/team/}" "${BINDERY_TAG:?is the tag}"

branch=${CI_COMMIT_REF_SLUG:-local}
main=${CI_DEFAULT_BRANCH:-main}

if [ "${BUILD_CACHE:-engine}" = registry ]; then
  # Layers of stages that are thrown away can be exported by this kind of builder alone.
  docker context create job >/dev/null 2>&1 || true
  docker buildx create --name job --driver docker-container --use job >/dev/null
fi

build() {
  name=$1 file=$2 target=$3
  set -- --progress plain --file "$file" --target "$target" --tag "${BINDERY_REGISTRY}bindery/$name:$BINDERY_TAG" \
    --build-arg "VERSION=$BINDERY_TAG" --build-arg "COMMIT=${BINDERY_COMMIT:-}" --provenance=false --push
  if [ -n "${BINDERY_PYTHON_IMAGE:-}" ]; then
    set -- "$@" --build-arg "PYTHON_IMAGE=$BINDERY_PYTHON_IMAGE"
  fi
  if [ "${BUILD_CACHE:-engine}" = registry ]; then
    cache=${BINDERY_REGISTRY}bindery/cache
    set -- "$@" --cache-from "type=registry,ref=$cache:$name-$branch" --cache-from "type=registry,ref=$cache:$name-$main" \
      --cache-to "type=registry,ref=$cache:$name-$branch,mode=max,image-manifest=true,ignore-error=true"
  fi
  echo "== $name"
  docker buildx build --metadata-file "built-$name.json" "$@" .
}

# What the registry calls it: the one name that can't come to mean another image.
digest() {
  sed -n 's/^ *"containerimage.digest": "\(sha256:[0-9a-f]*\)".*/\1/p' "built-$1.json"
}

build dagster Dockerfile.dagster dagster
build dbt Dockerfile.dbt dbt
build test Dockerfile.dagster test

{
  echo "DAGSTER_DIGEST=$(digest dagster)"
  echo "DBT_DIGEST=$(digest dbt)"
} >images.env
cat images.env
if ! grep -c '_DIGEST=sha256:' images.env | grep -qx 2; then
  echo "the builder named no digests" >&2
  exit 1
fi
