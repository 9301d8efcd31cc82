# Each target works from a bare checkout: git, make, a python3 (any 3.x with venv) and the package registries.
# All are quick when nothing changed.

RUN := .venv/bin

.PHONY: setup demo check test test-all audit bench prove fuzz messages reference docs pictures dist release-notes lock help

help:  ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

setup:  ## brings every dependency, and leaves .venv/bin/tocsin
	@python3 scripts/setup.py

demo: setup  ## starts Tocsin on http://localhost:8686 with a sample team; see README.md
	@exec $(RUN)/tocsin demo

check: setup  ## the quick checks: style, types, import order, migrations
	@$(RUN)/python scripts/verify.py --quick

test: setup  ## the checks and the tests that CI runs, the browser included: ten minutes
	@$(RUN)/python scripts/verify.py

test-all: setup  ## all of that and the long tests, on both PostgreSQL versions; before a release
	@$(RUN)/python scripts/verify.py --all

audit: setup  ## checks pins, hashes, licences and the code's safety, offline
	@$(RUN)/python scripts/audit.py

bench: setup  ## measures what Tocsin promises; `make bench ONLY="ingest"` for one
	@$(RUN)/python scripts/run_benchmarks.py $(ONLY)

prove: setup  ## kills and cuts off what Tocsin runs on, and counts what was lost; `make prove KILLS=1000` goes on where it stopped
	@$(RUN)/python scripts/prove.py $(if $(KILLS),--kills $(KILLS)) $(if $(RUNS),--runs $(RUNS)) $(ONLY)

fuzz: setup  ## mutates inputs of every parser for an hour; `make fuzz SECONDS=60 ONLY=mail` for one
	@$(RUN)/python -m tests.fuzz --seconds $(or $(SECONDS),3600) $(ONLY)

messages: setup  ## brings the catalogues of translations up to date with the texts
	@$(RUN)/python scripts/translations.py

reference: setup  ## writes the generated pages of docs/reference from the source
	@$(RUN)/python scripts/reference.py

docs: setup  ## builds the documentation as a site into build/site
	@$(RUN)/python scripts/docs_site.py

pictures: setup  ## takes the pictures of README and documentation anew, into docs/pictures
	@$(RUN)/python -m pytest -q tests/browser/test_every_page.py -k screenshots_are_captured

dist: setup  ## builds the artefacts of a release into dist/; `make dist ONLY="wheel image"` for some
	@$(RUN)/python scripts/dist.py $(if $(RELEASE),--release) $(ONLY)

release-notes: setup  ## refuses what cannot be published, and writes build/release-notes.md
	@$(RUN)/python scripts/dist.py --notes

lock: setup  ## remakes requirements/ and package-lock.json; `make lock UPGRADE=1` takes newer versions
	@$(RUN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)
