# Each target is one line through the stdlib script `dev`, so that everything works without make too.
.PHONY: help demo test lint bench faults sbom
PYTHON ?= python3
demo: ; @$(PYTHON) dev demo
test: ; @$(PYTHON) dev test
lint: ; @$(PYTHON) dev lint
bench: ; @$(PYTHON) dev bench
faults: ; @$(PYTHON) dev faults
sbom: ; @$(PYTHON) dev sbom
help: ; @$(PYTHON) dev help
