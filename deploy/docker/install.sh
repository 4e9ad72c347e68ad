#!/bin/sh
# Installs locked packages into an environment of an image: install.sh ENVIRONMENT GROUP-OPTIONS...
# By hashes, through whatever index pip is told to use, as tools/install.py does on a laptop.
set -eu
environment=$1
shift
uv export --quiet --frozen --no-default-groups --no-emit-project "$@" --output-file /tmp/requirements.txt
uv venv --quiet --no-project --python "$(command -v python3)" "$environment"
uv pip sync --quiet --python "$environment" --require-hashes /tmp/requirements.txt
rm /tmp/requirements.txt
