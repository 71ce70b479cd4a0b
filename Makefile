# Every target sets up what it needs; a second call only checks time stamps. Needs Python 3.11+ and Node 20+, no root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet --quiet --constraint requirements/constraints.txt
WEB := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/vite.config.ts web/tsconfig.json

.PHONY: run demo models telemetry ray test check bench generate clean help
help: ## what can be done here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(VENV)/base.stamp: pyproject.toml requirements/constraints.txt requirements/no-deps.txt
	@$(PYTHON) scripts/check_tools.py
	test -d $(VENV) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	$(PIP) --editable .
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/no-deps.txt
	@touch $@

$(VENV)/demo.stamp: $(VENV)/base.stamp
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp requirements/no-deps-dev.txt
	$(PIP) --editable '.[demo,dev]'
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements/no-deps-dev.txt
	@touch $@

$(VENV)/models.stamp: $(VENV)/base.stamp
	$(PIP) --editable '.[speech,vision]'
	@touch $@

build/ray/.stamp: models/requirements/ray.txt
	test -d build/ray || $(PYTHON) -m venv build/ray || { rm -rf build/ray; exit 1; }
	build/ray/bin/pip install --quiet --quiet --disable-pip-version-check --only-binary :all: --requirement $<
	@touch $@

web/node_modules/.stamp: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.stamp $(WEB)
	cd web && npm run --silent build
	@touch $@

run: $(VENV)/base.stamp web/dist/index.html ## serve on http://127.0.0.1:8080 with a demo room in which two bots talk (LAN=1: to the local network)
	test -e $(VENV)/models.stamp || $(BIN)/python -m candor.lean
	$(BIN)/candor serve --demo-room $(if $(LAN),--lan)

demo: $(VENV)/demo.stamp ## the same without a browser, bounded, measured: build/demo/report.json
	$(BIN)/candor demo

models: $(VENV)/models.stamp ## add torch, transformers and the default models, 1.5 GB and more (MIRROR=DIR: those that are in that folder)
	$(BIN)/candor models pull $(if $(MIRROR),--mirror $(MIRROR))

telemetry: $(VENV)/base.stamp ## add what sends traces to a collector (the setting telemetry.endpoint)
	$(PIP) --editable '.[telemetry]'

ray: build/ray/.stamp ## the environment of Ray Serve in build/ray, 220 MB fetched, 690 MB on the disk: what its tests run in

test: $(VENV)/dev.stamp web/dist/index.html ## all tests; those that need Debian packages say so
	cd web && npm test --silent
	$(BIN)/pytest

check: $(VENV)/dev.stamp web/node_modules/.stamp ## linters, types, import rules, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive candor signaling sfu media_processors models bots --configfile pyproject.toml
	$(BIN)/python -m signaling.protocol.generate --check
	$(BIN)/python -m models.service.openapi --check
	$(BIN)/python -m candor.metrics_list --check
	cd web && npm run --silent check

bench: $(VENV)/dev.stamp ## benchmarks: tables here, JSON in build/bench
	$(BIN)/python -m benchmarks.forward

generate: $(VENV)/dev.stamp web/node_modules/.stamp ## PROTOCOL.md, the browser's types, the service's openapi.json, deploy/METRICS.md
	$(BIN)/python -m signaling.protocol.generate
	$(BIN)/python -m models.service.openapi
	$(BIN)/python -m candor.metrics_list

clean: ## forget everything that was set up or built
	rm -rf $(VENV) build web/node_modules web/dist *.egg-info
