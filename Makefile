# What people and CI do with this clone. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

NODES ?= 1
NAME ?= dev
CACHE := $(or $(TIDELOCK_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tidelock)
CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny
E2E := cargo run --quiet --package tidelock-e2e --bin tidelock-e2e --
# A client that measures must not be slow itself.
E2E_RELEASE := cargo run --quiet --release --package tidelock-e2e --bin tidelock-e2e --

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: needs
needs: ## Say in one sentence what is missing on this machine before anything can be built
	@bash .ci/needs

.PHONY: check
check: needs $(CARGO_DENY) ## Run what is fast: format, lints, unit tests, documentation, licences
	cargo fmt --all --check
	cargo fmt --check --manifest-path e2e/clients/rust/Cargo.toml
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace --lib --bins
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	$(CARGO_DENY) --log-level error check bans licenses sources

.PHONY: test
test: needs ## Run everything, whole clusters included; installs what it needs
	bash .ci/test

.PHONY: soak
soak: needs ## Run what takes longer than a test may, such as ten minutes without the server
	$(E2E) tools
	bash .ci/soak

.PHONY: e2e
e2e: needs ## Run the suites on whole clusters only
	$(E2E) tools
	cargo test --package tidelock-e2e --tests -- --test-threads=1

.PHONY: test-versions
test-versions: needs ## Show install, mount and rotation on the oldest and the newest Kubernetes that is supported
	for version in 1.33 1.36; do \
		echo "=== Kubernetes $$version"; \
		TIDELOCK_KUBERNETES=$$version cargo test --package tidelock-e2e --test versions -- --test-threads=1 --show-output || exit; \
	done

.PHONY: bench
bench: needs ## Measure Tidelock beside what a user would pick instead; prints one table (BENCH="-o json" for programs)
	@$(E2E_RELEASE) bench $(BENCH)

.PHONY: bench-api
bench-api: needs ## Measure the AWS API under load beside moto and beside its limits; prints one table (BENCH="-o json" for programs)
	@cargo run --quiet --release --package tidelock-bench -- api $(BENCH)

.PHONY: demo
demo: needs ## Show the main job on a real cluster: a secret in a pod, a rotation, the file changed in place
	@$(E2E) demo

.PHONY: demo-down
demo-down: ## Remove what the demo made, and nothing else
	@$(E2E) demo-down

.PHONY: generate
generate: needs ## Write the CRDs and the manifests without Helm from the types and the chart
	@$(E2E) generate

.PHONY: tools
tools: needs ## Build the parts of the test clusters into the cache
	$(E2E) tools

.PHONY: image
image: needs ## Build the image as an OCI archive, target/tidelock-image.tar, and its context, target/image
	$(E2E) image-context
	$(E2E) image --to target/tidelock-image.tar

.PHONY: cluster-up
cluster-up: needs ## Start a cluster that stays (NODES=1 NAME=dev) and print the line to export
	@$(E2E) up --nodes $(NODES) --name $(NAME)

.PHONY: cluster-down
cluster-down: needs ## Take the cluster (NAME=dev) away
	@$(E2E) down --name $(NAME)

$(CARGO_DENY):
	@echo "... install cargo-deny $(CARGO_DENY_VERSION) into the cache (about 2.5 minutes, once)"
	env -u CARGO_TARGET_DIR cargo install --quiet --locked --version $(CARGO_DENY_VERSION) --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION) cargo-deny
