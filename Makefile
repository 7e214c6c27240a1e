# What each command does is in tests/workspace; everything it makes lies outside of this tree, under
# NORDIC_CACHE (default: ~/.cache/nordic.gitops). A machine with Python 3.11 or later, git and make is enough.

PYTHON ?= python3
# More arguments for pytest, for example: make test ARGS='-k prune'
ARGS ?=
# The hosts that `make hosts` starts; server… and agent… are grouped by their names.
NAMES ?=
# What runs beside the cluster of `make cluster`.
WITH ?=

workspace = $(PYTHON) -B tests/workspace

.DEFAULT_GOAL := help
.PHONY: help demo demo-down unit test test-full lint fuzz bench cluster cluster-shell cluster-down hosts hosts-down cloud cloud-down digests build health-page recording changelog clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do printf '%-22s%s\n' "$$name" "$$text"; done

demo: ## 50 microservices from a Git repository onto a real cluster: reconciled, healed, pruned, and a sealed secret through Argo CD (DEMO_KEEP=1 leaves it)
	@$(workspace) run python -m lab.demo $(ARGS)

demo-down: ## end the demo that DEMO_KEEP=1 left
	@$(workspace) run python -m lab demo-down

unit: ## the tests that need neither cluster nor host, in a minute
	@$(workspace) unit $(ARGS)

test: ## every test: sanity, linters, unit, property, integration on a real cluster, molecule
	@$(workspace) test $(ARGS)

test-full: ## the same, and the molecule scenarios that take longer
	@$(workspace) test-full $(ARGS)

lint: ## the checkers alone: ansible-test sanity, ansible-lint, documentation, types, house rules
	@$(workspace) dev python -m pytest tests/checks $(ARGS)

fuzz: ## untrusted input made at random, FUZZ_MINUTES=10 of processor time for each target (ARGS=loader for one)
	@$(workspace) dev python -m fuzz $(ARGS)

bench: ## measure against peers (BENCH_CASES=401,5001,k3s,fsync,instances,sealing,image,argocd,gitops,first_run BENCH_ROUNDS=5 BENCH_K3S_ROUNDS=2), write docs/benchmarks
	@$(workspace) dev python -m bench

cluster: ## start the embedded Kubernetes and print the path of its kubeconfig (WITH=sealed-secrets,argocd: and their controllers)
	@$(workspace) run python -m lab cluster start $(if $(WITH),--with $(WITH))

cluster-shell: ## a shell with kubectl and helm for it, or for the demo that was kept (ARGS='kubectl get nodes': one command)
	@$(workspace) run python -m lab cluster shell $(ARGS)

cluster-down: ## end it
	@$(workspace) run python -m lab cluster stop

hosts: ## start hosts with a real systemd and print the path of their inventory (NAMES=server1,agent1; root)
	@$(workspace) dev python -m lab hosts start $(if $(NAMES),--names $(NAMES))

hosts-down: ## end them
	@$(workspace) dev python -m lab hosts stop

cloud: ## start a real OpenStack (no guests) and print the path of its clouds.yaml
	@$(workspace) dev python -m lab cloud start

cloud-down: ## end it
	@$(workspace) dev python -m lab cloud stop

digests: ## pin the digests that the projects publish for the binaries of the lab (asks their servers, NORDIC_RELEASES: a mirror)
	@$(workspace) run python -m lab digests

build: ## the artefact for Ansible Galaxy, in this folder
	@$(workspace) build .

health-page: ## rewrite docs/health.md from the rules of health
	@$(workspace) dev python -m health_page

recording: ## record the demo anew for the README: docs/demo.cast and docs/demo.svg
	@$(workspace) dev python -m recording

changelog: ## rewrite CHANGELOG.rst from changelogs/
	@$(workspace) changelog

clean: ## remove what this checkout left in the state folder
	@$(workspace) clean
