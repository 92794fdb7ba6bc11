# `make` lists the targets. Each sets up what it needs in .venv, once, and again only when
# pyproject.toml changes.

# The interpreters to try, in turn. Each is really run, for a name on PATH may be a shim with
# nothing behind it. `make test PYTHON=/opt/python3.12/bin/python` takes that one.
PYTHON ?= python3.13 python3.12 python3.11 python3
# Passed on to pytest: `make test ARGS="-k buffer"`.
ARGS ?=
# How long `make fuzz` runs each target.
SECONDS ?= 10

VENV := .venv
BIN := $(VENV)/bin
GROUPS := demo mailfront gateway test check docs fuzz mutate
SERVERS := postfix dovecot-core dovecot-imapd dovecot-submissiond nginx libnginx-mod-mail libmilter-dev python3-milter miltertest opendkim postgresql swaks systemd gcc libc6-dev spampd spamassassin amavisd-new

.DEFAULT_GOAL := help
# Two pips at once would write over each other.
.NOTPARALLEL:

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(VENV)/.stamp-demo ## a filter and an MTA talk over a socket, and you read along
	@$(BIN)/python examples/demo.py

.PHONY: test
test: $(VENV)/.stamp-test ## all tests; those that need a server you lack are skipped
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: $(VENV)/.stamp-check ## ruff and mypy
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy

.PHONY: docs
docs: $(VENV)/.stamp-docs ## the manual, into build/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -d build/doctrees docs build/docs
	@echo "docs: open build/docs/index.html"

.PHONY: stack
stack: $(VENV)/.stamp-mailfront ## as root: nginx, two Postfix and every daemon, until Ctrl-C
	@$(BIN)/python examples/mailfront/stack.py $(ARGS)

.PHONY: gateway
gateway: $(VENV)/.stamp-gateway ## a milter that asks an SMTP gateway; ARGS="--config FILE"
	@$(BIN)/python examples/smtp_milter/daemon.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.stamp-test ## our speed beside that of others; ARGS=--docs puts it into the manual
	@for part in milter end_to_end dovecotauth nginxauth growth tcptable smtp_milter; do \
	  $(BIN)/python -m tests.benchmarks.bench_$$part $(ARGS) || exit 1; done

.PHONY: long
long: $(VENV)/.stamp-test ## what takes too long for CI: a million look-ups, thousands of edit lists, a soak
	@$(BIN)/python -m tests.benchmarks.long_table
	@$(BIN)/python -m tests.benchmarks.long_edits
	@$(BIN)/python -m tests.benchmarks.long_filters
	@$(BIN)/python -m tests.benchmarks.long_smtp_milter
	@$(BIN)/python -m tests.benchmarks.long_libmilter
	@$(BIN)/python -m tests.benchmarks.long_dovecot
	@$(BIN)/python -m tests.benchmarks.long_nginx
	@$(BIN)/python -m tests.benchmarks.long_postmap
	@$(BIN)/python -m tests.benchmarks.long_soak

.PHONY: fuzz
fuzz: $(VENV)/.stamp-test $(VENV)/.stamp-fuzz ## coverage-guided, each decoder; SECONDS=600 for longer than 10 each
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

.PHONY: mutate
mutate: $(VENV)/.stamp-mutate ## break the codecs on purpose and see the tests fail; ARGS=tcptable/_wire.py
	@$(BIN)/python -m tests.mutate $(ARGS)

# Answered beforehand with "No configuration", Debian's Postfix starts nothing; policy-rc.d
# (101 = forbidden) keeps every other service down too. A Postfix that is already there keeps
# its settings, and --no-remove keeps another mail server from being thrown out for ours.
.PHONY: servers
servers: ## as root, on Debian: the servers and libraries that `make test` can use
	@command -v apt-get >/dev/null || { \
	  echo "make servers: no apt-get here; install by hand: $(SERVERS)" >&2; exit 1; }
	@missing=; for package in $(SERVERS); do \
	  dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q ' installed$$' \
	    || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then echo "make servers: all there"; exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ]; then \
	  echo "make servers: run me as root (sudo make servers), to install:$$missing" >&2; exit 1; fi; \
	echo "make servers: installing$$missing"; \
	policy=/usr/sbin/policy-rc.d; \
	if [ ! -e "$$policy" ]; then \
	  trap 'rm -f "$$policy"' EXIT; trap 'exit 130' HUP INT TERM; \
	  printf '#!/bin/sh\nexit 101\n' >"$$policy"; chmod 755 "$$policy"; fi; \
	case "$$missing " in *" postfix "*) \
	  echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections;; esac; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get -qq update && \
	apt-get -qq -y --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 install $$missing >/dev/null

.PHONY: clean
clean: ## remove .venv and everything built
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	@find src tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up --------------------------------------------------------------------------------

# When the interpreter that .venv points to has gone, everything in it has to be made again.
$(shell test -x $(BIN)/python || rm -f $(VENV)/.stamp-*)

# Debian's python3 has `venv` without `ensurepip` until python3-venv is installed.
$(VENV)/.stamp-pip:
	@new='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! { $(BIN)/python -c "$$new" && $(BIN)/python -m pip --version; } >/dev/null 2>&1; then \
	  seen=; python=; \
	  for candidate in $(PYTHON); do \
	    "$$candidate" -c "$$new" 2>/dev/null || continue; \
	    seen=$$candidate; \
	    "$$candidate" -c 'import ensurepip, venv' 2>/dev/null && python=$$candidate && break; \
	  done; \
	  if [ -z "$$seen" ]; then \
	    echo "mailwire needs Python 3.11 or newer; none of these is one: $(PYTHON)" >&2; \
	    echo "Install it (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  if [ -z "$$python" ]; then \
	    echo "$$seen has no working venv module (venv, ensurepip)." >&2; \
	    echo "Install it (Debian: apt-get install python3-venv) or name another Python: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; \
	  fi; \
	  echo "set-up: $(VENV), with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV) || exit 1; \
	fi
	@# Older ones know no dependency groups.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.stamp-package: pyproject.toml $(VENV)/.stamp-pip
	@echo "set-up: mailwire itself, into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

$(GROUPS:%=$(VENV)/.stamp-%): $(VENV)/.stamp-%: $(VENV)/.stamp-package
	@echo "set-up: what \`make $*\` needs, into $(VENV) (the first time this takes a while)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --group $*
	@touch $@
