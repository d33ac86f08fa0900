# Each target is one line through the stdlib script `dev`, so that everything works without make too.
LANES = push fuzz root package browser database docs
.PHONY: help demo test lint bench faults live dist deb docs pictures fleet-demo release sbom $(LANES:%=test-%)
PYTHON ?= python3
demo: ; @$(PYTHON) dev demo
test: ; @$(PYTHON) dev test
$(LANES:%=test-%): ; @$(PYTHON) dev test $(@:test-%=%)
lint: ; @$(PYTHON) dev lint
bench: ; @$(PYTHON) dev bench
faults: ; @$(PYTHON) dev faults
live: ; @$(PYTHON) dev live
dist: ; @$(PYTHON) dev dist
release: ; @$(PYTHON) dev release $(VERSION)
sbom: ; @$(PYTHON) dev sbom
deb: ; @$(PYTHON) dev deb
docs: ; @$(PYTHON) dev docs
pictures: ; @$(PYTHON) dev pictures
fleet-demo: ; @$(PYTHON) dev fleet-demo
help: ; @$(PYTHON) dev help
