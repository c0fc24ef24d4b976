# Everything a person or CI runs. `make lab` and `make test` need Python >= 3.11, make and the package registries only.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PLAY   ?= stay
SEEDS  ?= 7000
MINUTES ?=
COMPILED ?=
WIRE_SEEDS ?= 20
FLEET_HOURS ?= 1
HOURS  ?= 2
PACE   ?= 60
JOBS   ?= 2
RUNS   ?= 2000000
CORE   ?= $(addprefix bridge/core/,$(addsuffix .py,charger ledger setpoint limit fallback allocation site telemetry points))

.PHONY: help install lab scenarios test lint format lock prove mutate fuzz soak soak-fleet bench lab-chargers compose-lab test-compose test-browser pages docs wheel sbom clean

help:
	@echo "make lab            the whole chain on loopback: plays T1-T4, shows it live, stays up (PLAY=once: ends after them)"
	@echo "make scenarios      plays all scenarios, T1-T10, each judged on the wire and at the units; about nine minutes"
	@echo "make test           test suite, linters, types, import walls"
	@echo "make install        sets up .venv"
	@echo "make test-browser   what an operator does, in a headless Chromium; SCREENSHOTS=docs/screenshots keeps pictures"
	@echo "make compose-lab    the same as services in containers; needs a Docker engine (make test-compose tests that)"
	@echo "make prove          plants every bug, then plays seeded worlds (SEEDS=$(SEEDS), or MINUTES=... of them), keeps a tally; COMPILED=1: thrice as fast"
	@echo "make mutate         changes the core in every small way and sees whether a test notices, CORE=... its files; hours (docs/mutation.md)"
	@echo "make fuzz           coverage-guided fuzzing of the outstation, RUNS=$(RUNS) of each target (atheris: Linux on x86-64)"
	@echo "make soak           the CSMS away for HOURS=$(HOURS), 50 sessions, 20 kills; PACE=$(PACE): 60 times as fast, 1: real time"
	@echo "make soak-fleet     1,000 chargers for FLEET_HOURS=$(FLEET_HOURS): setpoints, link cuts, reconnects; report in soak/"
	@echo "make bench          the figures of benchmarks/RESULTS.md anew, beside the floor and the stock way"
	@echo "make docs           the pages of docs/ as a site in build/site, which needs no other host (make pages: what is made from the code)"
	@echo "make wheel          the wheel of this commit, the same octets wherever it is built (make sbom: what it is made of)"
	@echo "make lock           compiles requirements-*.txt anew from pyproject.toml"

install: $(VENV)/.installed

$(VENV)/.installed: requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

scenarios: install
	$(BIN)/gridlimit scenario play scenarios/

lab: install
	$(BIN)/gridlimit lab --play $(PLAY)

test: install lint
	$(BIN)/pytest -n $(JOBS) --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

prove: install
	$(BIN)/gridlimit prove --planted --jobs $(JOBS)
	$(BIN)/gridlimit prove 1000 $(if $(MINUTES),--for $(MINUTES),--seeds $(SEEDS)) --jobs $(JOBS) --tally prove-tally.jsonl \
		$(if $(COMPILED),--compiled)
	$(BIN)/gridlimit prove 1000 --wire --seeds $(WIRE_SEEDS) --jobs $(JOBS) --tally prove-tally.jsonl

mutate: install
	$(BIN)/python -m tests.mutate $(CORE)

fuzz: install
	$(BIN)/pip install --quiet --require-hashes -r requirements-fuzz.txt
	$(BIN)/python -m tests.iec104.fuzz_main asdu -runs=$(RUNS) -max_len=260
	$(BIN)/python -m tests.iec104.fuzz_main frames -runs=$(RUNS) -max_len=300

soak: install
	$(BIN)/gridlimit soak --hours $(HOURS) --pace $(PACE)

soak-fleet: install
	$(BIN)/gridlimit bench soak --hours $(FLEET_HOURS)

bench: install
	$(BIN)/gridlimit bench all --json benchmarks/results.json --markdown benchmarks/figures.md --plot benchmarks/fan_out.png

pages: install
	$(BIN)/python -m bridge.reference

docs: pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The same commit gives the same wheel, octet by octet, on whatever machine.
wheel: install
	rm -rf build/wheel && mkdir -p build/wheel dist
	umask 022 && git archive HEAD LICENSE README.md pyproject.toml bridge profiles | tar --no-same-permissions -x -C build/wheel \
		&& SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/pip wheel --quiet --no-deps --no-build-isolation --no-index \
		--wheel-dir dist ./build/wheel
	sha256sum dist/*.whl

# Of an environment with nothing in it but the service's lock.
sbom: install
	rm -rf build/sbom && mkdir -p dist && $(PYTHON) -m venv --without-pip build/sbom
	$(BIN)/pip --python build/sbom/bin/python install --quiet --require-hashes -r requirements.txt
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/cyclonedx-py environment --pyproject pyproject.toml \
		--mc-type application --output-reproducible --of JSON -o dist/sbom.cdx.json build/sbom/bin/python

COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)

UNITS ?= 3
UNIT = {serial: S4-%04d, charger_profile: series4-ultra, sample_interval_s: 1},
LAST = {serial: CS-0001, charger_profile: native-201, sample_interval_s: 1}

lab-chargers:
	@echo "[$$(printf '$(UNIT)' $$(seq $(UNITS)))$(LAST)]"

compose-lab:
	GRIDLIMIT_CHARGERS="$$($(MAKE) --silent --no-print-directory lab-chargers)" \
		$(COMPOSE) up --build --scale units=$(UNITS) --exit-code-from scenarios

# What an operator does, in Debian's headless Chromium (apt-get install chromium); SCREENSHOTS=FOLDER keeps pictures.
test-browser: install
	BROWSER_TESTS=1 SCREENSHOTS=$(SCREENSHOTS) $(BIN)/pytest tests/dashboard/test_browser.py

test-compose: install
	COMPOSE_LAB=$(or $(COMPOSE_LAB),1) $(BIN)/pytest tests/test_compose.py

COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links

lock:
	$(COMPILE) --upgrade --output-file requirements.txt pyproject.toml
	$(COMPILE) --constraint requirements.txt --extra lab --output-file requirements-lab.txt pyproject.toml
	$(COMPILE) --constraint requirements-lab.txt --extra lab --extra dev --output-file requirements-dev.txt pyproject.toml
	echo "atheris>=3,<4" | $(COMPILE) --output-file requirements-fuzz.txt -

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
