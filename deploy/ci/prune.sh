#!/bin/sh
# Removes old images from the project's registry: those named by a commit, but not the newest KEEP_NEWEST nor any younger
# than OLDER_THAN. Releases (v1.2.3), caches and signatures stay. GitLab takes this once an hour for each repository.
#
#   PRUNE_TOKEN    a project access token with the scope api and the role Maintainer; masked, protected
set -eu
: "${PRUNE_TOKEN:?is not set: a project access token (api, Maintainer); docs/ci.md}"
base=${CI_API_V4_URL:?}/projects/${CI_PROJECT_ID:?}/registry/repositories
newest=${KEEP_NEWEST:-20}
age=${OLDER_THAN:-14d}

ask() {
  # The token in a file that only this process reads: arguments are seen by everybody on the machine.
  printf 'header = "PRIVATE-TOKEN: %s"\n' "$PRUNE_TOKEN" | curl --silent --show-error --fail --retry 2 --max-time 60 --config - "$@"
}

found=$(ask "$base?per_page=100")
echo "$found" | jq -r '.[] | "\(.id) \(.path)"' | while read -r id name; do
  case $name in */bindery/dagster | */bindery/dbt | */bindery/test) ;; *) continue ;; esac
  ask --request DELETE "$base/$id/tags" --data-urlencode 'name_regex_delete=[0-9a-f]{40}' --data "keep_n=$newest" \
    --data "older_than=$age"
  echo "$name: asked to remove commits' images but the newest $newest and those younger than $age"
done
