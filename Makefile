# Two commands do everything on a machine with Python 3.11 to 3.13: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
UV ?= uv

.PHONY: run test test-long test-oldest test-newest smoke lint types tests notebooks docs format lock clean

run: $(VENV)/.installed
	$(BIN)/scansearch run --space vim8 --k 4 $(ARGS)

test: lint types tests notebooks docs

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# In the order of the files: else those of one long test are left for the end.
tests: $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

notebooks: $(VENV)/.installed-dev
	$(BIN)/pytest --nbmake --nbmake-timeout=600 --numprocesses auto notebooks

# The site; an unknown link or name is an error. Nothing is fetched, then or when it is read.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test-long: $(VENV)/.installed-dev
	$(BIN)/pytest -m long

smoke: $(VENV)/.installed-dev
	$(BIN)/pytest -m smoke --numprocesses auto --dist loadfile

# The lowest versions that pyproject.toml promises, on the lowest Python.
test-oldest: $(VENV)-oldest/.installed-oldest
	$(VENV)-oldest/bin/pytest -m smoke --numprocesses auto --dist loadfile

# The newest versions that the ranges of pyproject.toml allow, whatever the locks say.
test-newest:
	test -x $(VENV)-newest/bin/python || $(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager pip -e '.[dev,dense,docs,hf,onnx,track]'
	$(VENV)-newest/bin/pytest --numprocesses auto --dist loadfile

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# $(1) the environment, $(2) the name of its lock
define install_locked
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --require-hashes --requirement locks/$(2).txt
	$(1)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
endef

$(VENV)/.installed: pyproject.toml locks/run.txt
	$(call install_locked,$(VENV),run)

$(VENV)/.installed-dev: pyproject.toml locks/dev.txt
	$(call install_locked,$(VENV),dev)

$(VENV)-oldest/.installed-oldest: pyproject.toml locks/oldest.txt
	$(PYTHON) -c "import sys; sys.exit(None if sys.version_info[:2] == (3, 11) else 'set PYTHON to a Python 3.11')"
	$(call install_locked,$(VENV)-oldest,oldest)

# Chooses all versions anew; needs uv on the PATH or in UV. Nothing else does.
RESOLVE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile pyproject.toml --quiet --upgrade --universal \
	--python-version 3.11 --fork-strategy fewest --generate-hashes --no-emit-index-url --no-annotate --group build

lock:
	$(RESOLVE) --extra dev --extra dense --extra docs --extra hf --extra onnx --extra track --constraint locks/held.txt --output-file locks/dev.txt
	$(RESOLVE) --constraint locks/dev.txt --output-file locks/run.txt
	$(RESOLVE) --extra test --extra dense --extra hf --extra onnx --resolution lowest-direct --output-file locks/oldest.txt

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest .mypy_cache .ruff_cache .pytest_cache .hypothesis site
