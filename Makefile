# Paths are relative, so that a folder with a space in its name works.
PYTHON ?= python3
PY = .venv/bin/python
TRIPARTITE = $(PY) -m companion.cli

# Where a machine sets it, every process would compile all that it imports, and take twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup book live test accept serve pdf lab bench seeds choices environments mutants release lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

setup:  ## create .venv from the lock
	@$(PYTHON) code/companion/bootstrap.py

book: setup  ## execute every stale chapter and build the site
	@$(TRIPARTITE) book

live: setup  ## the same, and chapters run in the page: fetches 77 MB once
	@$(TRIPARTITE) book --live

test: setup  ## unit tests, nbval on every chapter, a build with warnings as errors
	@$(TRIPARTITE) fetch
	@$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

accept: setup  ## execute every chapter and make its outputs the new reference
	@$(TRIPARTITE) accept

.PHONY: lighthouse
lighthouse: setup  ## score pages of the built site with Lighthouse: needs Node and Chromium
	@$(PY) tests/peers/lighthouse.py

.PHONY: pages
pages: setup  ## what every page weighs, and its checks in a browser: minutes
	@$(PY) tests/peers/pages.py

serve:  ## show the site at http://127.0.0.1:8000/
	@test -d _build/stage/_build/html || { echo "no site yet: run make book"; exit 1; }
	@$(PY) -m http.server 8000 --bind 127.0.0.1 --directory _build/stage/_build/html

pdf: setup  ## the whole book as one PDF, printed by Chromium: a minute
	@$(TRIPARTITE) pdf

lab: setup  ## open the chapters in JupyterLab, which is fetched the first time
	@.venv/bin/uv run --quiet --no-project --python $(PY) --with jupyterlab jupyter lab book

bench: setup  ## time attention and astrocytes against their peers, in their own environments: minutes
	@$(PY) tests/peers/bench_attention.py
	@$(PY) tests/peers/bench.py

seeds: setup  ## every claim with twenty seeds that are new, drawn from the date: an hour
	@$(TRIPARTITE) fetch
	@$(PY) -m companion.seeds --workers 2

choices: setup  ## every chapter with the choices that were not taken: half an hour
	@$(TRIPARTITE) fetch
	@$(PY) -m companion.choices --workers 2

environments: setup  ## figures under other threads, locales, packages: half an hour
	@$(TRIPARTITE) fetch
	@$(PY) -m companion.environments --workers 2

mutants: setup  ## break the module's equations, one by one: minutes
	@$(PY) tests/mutants.py --workers 2

release: setup  ## what a release must be: no result of other sources
	@$(PY) -m companion.stale

lock: setup  ## resolve pyproject.toml anew into requirements.lock and environment.yml
	@$(PY) -m companion.lock

clean:  ## delete what was built, but not .venv
	@rm -rf _build build runs
