# Relative paths only, and `python -m` for every tool: the folder's own path may contain spaces.

# The Python that makes .venv; unset: the first of these that is new enough.
PYTHON ?=
PYTHONS = python3 python3.11 python3.12 python3.13 python3.14
VENV = .venv/bin/python
# The tests that start a whole desk.
OUTSIDE = $(wildcard tests/test_browser_*.py) tests/test_end_to_end.py tests/test_readme.py tests/test_run.py
COMPILE = $(VENV) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make requirements"

BENCHMARKS = issue issue_beside_node drain redeem importing issue_during_import summary listing export emails bulk \
	admin_pages storage webhooks scaling packages
LARGE = "importing --codes 1000000" "importing --memory --large" "drain --large" "summary --vouchers 10000000" \
	"admin_pages --vouchers 10000000"

.PHONY: help run test tests-inside tests-outside test-long bench bench-large lint format messages requirements \
	.venv-run .venv-dev

help:
	@echo "make run           everything a new machine needs, then the desk on PORT (8000)"
	@echo "make test          everything, then all checks and tests"
	@echo "make test-long     the tests that take a minute each"
	@echo "make bench         how fast the desk is, beside something comparable in the same run"
	@echo "make bench-large   the same with ten million vouchers; takes long, and much of the disk"
	@echo "make lint          the checks that need no database"
	@echo "make format        write the code as the checks want it"
	@echo "make messages      collect what buyers read into config/locale, and compile it (needs GNU gettext)"
	@echo "make requirements  choose the versions of the libraries anew"

run: .venv-run
	@exec $(VENV) manage.py run

# Side by side, because those from outside mostly wait: for a browser, a server, a worker.
test: .venv-dev
	@$(MAKE) --no-print-directory --jobs=3 lint tests-outside tests-inside

tests-outside: .venv-dev
	TESTS_PART=-outside $(VENV) -m pytest $(OUTSIDE)

tests-inside: .venv-dev
	$(VENV) -m pytest $(OUTSIDE:%=--ignore=%)

test-long: .venv-dev
	$(VENV) -m pytest -m long

bench: .venv-dev
	$(call measure,$(BENCHMARKS))

bench-large: .venv-dev
	$(call measure,$(LARGE))

# mypy's plugin reads the settings, and those refuse to be read without a key.
lint: .venv-dev
	$(VENV) -m ruff check .
	$(VENV) -m ruff format --check .
	@echo "$(VENV) -m mypy ."
	@SECRET_KEY="$$($(VENV) -c 'import secrets; print(secrets.token_urlsafe(50))')" $(VENV) -m mypy .
	$(VENV) manage.py check

format: .venv-dev
	$(VENV) -m ruff check --fix .
	$(VENV) -m ruff format .

# Without the lines where a text stands, which would change with every edit; staff read English. What is compiled is kept in the
# repository too: a new machine has no gettext.
messages: .venv-dev
	$(VENV) manage.py makemessages --locale de --no-location --no-obsolete --no-wrap \
		--ignore tests --ignore benchmarks --ignore "templates/admin/*"
	$(VENV) manage.py compilemessages --locale de --ignore .venv

requirements: .venv-dev
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) pyproject.toml --extra dev -o requirements-dev.txt
	$(COMPILE) benchmarks/oscar/requirements.in -o benchmarks/oscar/requirements.txt

.venv-run:
	$(call install,requirements.txt)

.venv-dev:
	$(call install,requirements-dev.txt)

# A copy of the list inside .venv says what is installed. It is written last, and a .venv without pip is half
# of one (or its Python is gone): whatever was interrupted is done again.
define install
	@if ! $(VENV) -c 'import pip' 2>/dev/null; then $(make_venv); fi
	@if ! cmp -s $(1) .venv/$(1); then \
		echo "Installing the libraries of $(1) (once; this can take some minutes) ..." && \
		$(VENV) -m pip install -qq --disable-pip-version-check --require-hashes -r $(1) && \
		cp $(1) .venv/$(1); \
	fi
endef

# Each by itself: one that breaks off is named at the end and keeps nobody from being measured.
define measure
	@failed=; \
	for benchmark in $(1); do \
		echo; echo "== $$benchmark =="; \
		$(VENV) -m benchmarks.$$benchmark || failed="$$failed, $$benchmark"; \
	done; \
	$(VENV) -m benchmarks.report || failed="$$failed, report"; \
	if [ -n "$$failed" ]; then echo "Broke off: $${failed#, }" >&2; exit 1; fi
endef

define make_venv
	for python in $(or $(PYTHON),$(PYTHONS)); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "The desk needs Python 3.11 or newer, and $(or $(PYTHON),python3) is not: make run PYTHON=python3.12" >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$python ..."; \
	rm -rf .venv; \
	if ! "$$python" -m venv .venv; then \
		echo "$$python cannot make .venv: install its venv module (Debian: apt-get install python3-venv)" \
			"and try again." >&2; \
		exit 1; \
	fi
endef
