# The front door: every target is one line over `bindery`. `make help` lists them.
# Variables on the command line reach the program: make run REVISION=2, SOURCES=live, SAMPLE_SCALE=10, DEBUG=1,
# PYTHON=/path/to/python3.13 (which Python to install for).

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Nothing this project starts reports to anybody.
export DO_NOT_TRACK := 1
export DBT_SEND_ANONYMOUS_USAGE_STATS := false
export DAGSTER_DISABLE_TELEMETRY := 1
# A run starts dozens of processes: without compiled files each would compile all it imports, for half a second.
export PYTHONDONTWRITEBYTECODE :=

BINDERY := .venv/bin/bindery
INSTALL := tools/install.sh
TESTS := .venv/bin/python -m tests.run

.PHONY: help
help: ## list every target
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-23s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: install
install: ## install from the lock into .venv and .venv-dbt (run, dev and test do it by themselves)
	@$(INSTALL)

.PHONY: install-dev
install-dev: ## the same with what tests and checks need
	@$(INSTALL) --with dev

.PHONY: run
run: install ## materialise the whole graph from the sample world (REVISION=2, SOURCES=live, SAMPLE_SCALE=10, DEBUG=1)
	@$(BINDERY) run $(if $(DEBUG),--debug)

.PHONY: dev
dev: install ## Dagster's UI on localhost:3000 (PORT=3001), with schedules and sensors, over the same database
	@$(BINDERY) dev $(if $(PORT),--port $(PORT))

.PHONY: prove
prove: install ## kill -9 in the middle of a load, run again, compare the tables
	@$(BINDERY) prove

.PHONY: test
test: install-dev ## every check and every test that needs no Docker
	@$(TESTS)

.PHONY: check
check: install-dev ## the static checks alone: lint, format, types, imports, SQL, secrets
	@$(TESTS) --static

.PHONY: lint
lint: install-dev ## ruff, import contracts, sqlfluff, yamllint, secret scan
	@$(TESTS) --static --except mypy

.PHONY: format
format: install-dev ## let ruff mend formatting and what it can of the rest
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

.PHONY: type
type: install-dev ## mypy --strict
	@$(TESTS) --static --only mypy

.PHONY: test-graph
test-graph: install-dev ## the whole graph in other ways: interrupted, with the daemon, by plain dagster, its models judged, backed up
	@.venv/bin/python -m pytest -q -n 2 --dist loadfile tests/soak/test_soak_graph_*.py

.PHONY: soak
soak: install-dev ## the long matrices that make test leaves out
	@.venv/bin/pytest tests/soak && .venv/bin/pytest -m soak tests/unit tests/integration tests/aws

.PHONY: soak-docker
soak-docker: install-dev ## the long tests that need a Docker engine: services killed under runs, ten runs at once
	@BINDERY_TEST_SOAK=1 .venv/bin/python -m tests.docker.run -m "soak or not soak" tests/docker/test_soak_probe.py tests/docker/test_backup.py

.PHONY: bench
bench: install ## measure loads, starts and runs (JSON=1: as JSON; NAMES="load_rest make_run", REPEAT=5)
	@.venv/bin/python -m benchmarks $(if $(JSON),--json) $(if $(REPEAT),--repeat $(REPEAT)) $(NAMES)

.PHONY: bench-docker
bench-docker: install-dev ## measure steps in containers: our executor, Dagster's own, and processes (JSON=1, REPEAT=5)
	@.venv/bin/python -m benchmarks $(if $(JSON),--json) $(if $(REPEAT),--repeat $(REPEAT)) docker

.PHONY: bench-peers
bench-peers: install-dev ## measure dlt, the peer, on the same input in the same run (JSON=1, REPEAT=5)
	@UV_PROJECT_ENVIRONMENT=.venv-bench .venv/bin/uv sync --quiet --frozen --only-group bench --no-install-project
	@.venv/bin/python -m benchmarks $(if $(JSON),--json) $(if $(REPEAT),--repeat $(REPEAT)) peers

.PHONY: hooks
hooks: install-dev ## run the checks before every commit
	@.venv/bin/pre-commit install

.PHONY: docs
docs: install ## write the generated pages anew: settings, .env.example, the card schema
	@.venv/bin/python -m dagster_project.cli.docs

.PHONY: db-start
db-start: install ## start the embedded Postgres
	@$(BINDERY) db start

.PHONY: db-stop
db-stop: install ## stop it
	@$(BINDERY) db stop

.PHONY: psql
psql: install ## a SQL prompt on it
	@$(BINDERY) db psql

.PHONY: world-start
world-start: install ## start the sample world: catalogue API, bookshop, dropped files
	@$(BINDERY) world start

.PHONY: world-stop
world-stop: install ## stop it
	@$(BINDERY) world stop

# The platform in containers; docs/docker.md. Settings are variables or lines of .env: BINDERY_PORT, BINDERY_HOST, ...
COMPOSE = $(shell tools/up.sh --which 2>/dev/null || echo docker compose)
PROJECT = $$($(COMPOSE) config --format json | sed -n 's/^  "name": "\(.*\)",$$/\1/p')
# What is started by profile ends with the rest.
EVERY := COMPOSE_PROFILES=tools,registry
# Both images under their full names; TRIVY_IMAGE is the one that CI names.
IMAGES = $$($(COMPOSE) config --images | grep -E 'bindery/(dagster|dbt):' | sort -u)
TRIVY_IMAGE ?= $(shell sed -n 's/^  TRIVY_IMAGE: //p' .gitlab-ci.yml)
OURS = docker ps -aq --filter label=bindery.project=$(PROJECT) --filter label=bindery.kind
export BINDERY_COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)

.PHONY: up
up: ## the whole platform in Docker; the UI on localhost:3000 (BINDERY_PORT), logins by make password
	@tools/up.sh $(SERVICE) && if address=$$(tools/up.sh --address); then echo "$$address   logins: make password"; fi

.PHONY: down
down: ## end it; data and secrets stay in volumes
	@$(COMPOSE) stop daemon supervisor && $(OURS) | xargs -r docker rm --force >/dev/null && $(EVERY) $(COMPOSE) down

.PHONY: stop-services
stop-services: ## stop its containers and keep them, with their logs; make up goes on
	@$(EVERY) $(COMPOSE) stop

.PHONY: ps
ps: ## its services, and the containers of runs and steps
	@$(COMPOSE) ps --all && docker ps --all --filter label=bindery.project=$(PROJECT) --filter label=bindery.kind

.PHONY: logs
logs: ## what its services print, from now on (SERVICE=daemon: of one)
	@$(COMPOSE) logs --tail 200 --follow $(SERVICE)

.PHONY: password
password: ## its two logins
	@$(COMPOSE) run --rm --no-deps -T secrets bindery secrets password

.PHONY: sql
sql: ## a SQL prompt on its warehouse, read-only (WRITE=1: not)
	@$(COMPOSE) exec -e PGOPTIONS="-c default_transaction_read_only=$(if $(WRITE),off,on)" postgres sh -c 'PGPASSWORD=$$(cat /run/bindery/admin/postgres_password) psql -h 127.0.0.1 -U postgres bindery'

.PHONY: pipeline
pipeline: ## load what is landed and build everything downstream, in the running platform; waits for the end
	@$(COMPOSE) exec -T webserver bindery launch pipeline

.PHONY: pipeline-with-scraping
pipeline-with-scraping: ## the same, and fetch every source first
	@$(COMPOSE) exec -T webserver bindery launch pipeline_with_scraping

.PHONY: backup
backup: ## write its databases and landed bytes to FILE (LANDING=no: without landed bytes); runs may go on
	@COMPOSE="$(COMPOSE)" deploy/backup/backup.sh "$(or $(FILE),backup-$(shell date -u +%Y%m%dT%H%M%SZ).tar)" $(if $(filter no,$(LANDING)),--no-landing)

.PHONY: restore
restore: ## bring FILE back (REPLACE=yes: over what is there); its services stop meanwhile
	@test -n "$(FILE)" || { echo "which backup? make restore FILE=backup.tar" >&2; exit 2; }
	@COMPOSE="$(COMPOSE)" deploy/backup/restore.sh "$(FILE)" $(if $(filter yes,$(REPLACE)),--replace)

.PHONY: doctor
doctor: install ## what is wrong with Python, database, Docker, ports, disk, memory or secrets, each with its fix
	@$(BINDERY) doctor $(if $(DOCKER),docker)

.PHONY: images
images: ## build both images; print their sizes and layers
	@$(COMPOSE) build && for image in $(IMAGES); do docker image ls "$$image"; docker history --format '{{.Size}}\t{{.CreatedBy}}' "$$image" | grep -v '^0B' | cut -c1-110; done

.PHONY: push
push: ## push both images to BINDERY_REGISTRY (registry.example/team/) under BINDERY_TAG
	@$(COMPOSE) config --images | grep -q '.*[.:].*/bindery/dagster:' || { echo "set BINDERY_REGISTRY to your registry, as in registry.example/team/" >&2; exit 2; }; $(COMPOSE) push secrets dbt

.PHONY: deploy
deploy: install ## bring the checkout to AWS: images, infrastructure, secrets, migration, services (PLAN=1: show what would change)
	@$(BINDERY) deploy aws $(if $(PLAN),--plan)

.PHONY: push-aws
push-aws: install ## make repositories in ECR, log in, build and push both images
	@$(BINDERY) deploy aws push

.PHONY: aws-costs
aws-costs: install ## what a month and a run cost on AWS, by deploy/terraform/prices.yaml
	@$(BINDERY) deploy aws costs

.PHONY: sbom
sbom: install-dev ## the bill of materials of both images: sbom/dagster.cdx.json, sbom/dbt.cdx.json
	@for image in $(IMAGES); do .venv/bin/python tools/sbom.py "$$image" "sbom/$$(basename "$${image%:*}").cdx.json" || exit 1; done

.PHONY: scan
scan: ## look for known holes in both images (trivy, as in CI; asks the internet for what is known)
	@mkdir -p .cache/scan && for image in $(IMAGES); do docker run --rm --entrypoint sh --volume /var/run/docker.sock:/var/run/docker.sock --volume "$(CURDIR)/deploy/ci:/ci:ro" --volume "$(CURDIR)/.cache/scan:/scan" --workdir /scan $(TRIVY_IMAGE) /ci/scan.sh image "$$image" || exit 1; done

.PHONY: sign
sign: ## sign both pushed images with COSIGN_PRIVATE_KEY (cosign, as in CI), each with its bill of materials
	@for image in $(IMAGES); do digest=$$(docker image inspect --format '{{join .RepoDigests "\n"}}' "$$image" | grep "^$${image%:*}@"  | head -n 1); [ -n "$$digest" ] || { echo "$$image has no digest: make push gives it one" >&2; exit 2; }; sh deploy/ci/sign.sh sign "$$digest" "sbom/$$(basename "$${image%:*}").cdx.json" || exit 1; done

.PHONY: test-gitlab
test-gitlab: install-dev ## the pipeline's structure and scripts, and its jobs in a local runner (BINDERY_GITLAB_CI_LOCAL)
	@.venv/bin/python -m tests.gitlab.run

.PHONY: soak-gitlab
soak-gitlab: install-dev ## the pipeline's long jobs: a stack whose tables are compared, signatures, a server
	@BINDERY_TEST_SOAK=1 .venv/bin/python -m tests.gitlab.run tests/gitlab/test_soak_jobs.py

.PHONY: test-aws
test-aws: install-dev ## uploads, landing and tasks on AWS, against servers on this machine that stand in for it
	@.venv/bin/python -m tests.aws.run

.PHONY: test-docker
test-docker: install-dev ## every test that needs a Docker engine: the platform from nothing, and what breaks it (BROWSER=1: and its UI)
	@$(if $(BROWSER),$(INSTALL) --quiet --with dev --with browser && BINDERY_TEST_BROWSER=1) .venv/bin/python -m tests.docker.run

.PHONY: test-browser
test-browser: ## the UI in Docker as people see it, in this machine's Chromium
	@$(INSTALL) --with dev --with browser && BINDERY_TEST_BROWSER=1 .venv/bin/python -m tests.docker.run tests/docker/test_browser.py

.PHONY: clean
clean: ## remove caches and build output; data stays (DATA=delete SURE=yes: the containers' data goes, for ever)
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dbt_project/target dbt_project/logs dist
	@if [ -f .bindery/postgres/location ]; then echo "the database's files are in $$(head -n 1 .bindery/postgres/location)"; fi
	@if [ "$(DATA) $(SURE)" = "delete yes" ]; then $(OURS) | xargs -r docker rm --force >/dev/null; $(EVERY) $(COMPOSE) down --volumes; \
	  elif [ -n "$(DATA)" ]; then echo "would delete the volumes of $(PROJECT): database, landing, secrets, logs. If you mean it: make clean DATA=delete SURE=yes"; exit 2; fi
	@echo "caches removed. Kept: .bindery and drop (your data), .venv* (make install renews them; rm -r .venv* frees the space)"
