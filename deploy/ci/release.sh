#!/bin/sh
# Gives the signed images of this commit a release's name: release.sh v1.2.3. The digest stays, and so does the signature.
set -eu
version=${1:?is the release, as in v1.2.3}
folder=$(dirname "$0")

for name in dagster dbt; do
  repository=${BINDERY_REGISTRY:?}bindery/$name
  digest=$(sh "$folder/sign.sh" verify "$repository:${BINDERY_TAG:?}")
  docker buildx imagetools create --tag "$repository:$version" "$repository@$digest"
  echo "$repository:$version is $digest"
done
