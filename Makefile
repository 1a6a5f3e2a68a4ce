# devspool. "make run" shows it at work, "make test" proves it; see README.md.

# Budget of the amd64 binary in bytes: stripped, and xz -9e.
SIZE_MAX    := 2300000
SIZE_XZ_MAX := 820000

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags="$(LDFLAGS)"

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# GOARCH, or GOARCH-GOARM; the boards that Linux runs on.
ARCHES := amd64 arm64 arm-6 386 riscv64 mipsle mips s390x

.PHONY: all build size run test check cross bench fuzz man clean

all: build

build: devspool size

devspool: FORCE
	@$(GOBUILD) -o $@ .

FORCE:

# Prints the size of the binary and fails past the budget.
size: devspool
	@scripts/size devspool $(SIZE_MAX) $(SIZE_XZ_MAX)

# Coldplugs this machine's /sys into a scratch directory and follows live events
# until Ctrl-C, or for FOR seconds. The machine's /dev is not touched.
run: devspool
	@scripts/run $(FOR)

# All tests: fetches what they need where it can, and says what was not tested.
test: devspool
	@scripts/test

# What must hold before any test: format, vet, staticcheck, every architecture.
check: cross
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...

cross:
	@for arch in $(ARCHES); do \
		GOOS=linux GOARCH=$${arch%-*} GOARM=$$(echo $$arch | sed -n 's/.*-//p') \
		$(GOBUILD) -o dist/devspool-$$arch . || exit 1; \
	done
	@scripts/size -l dist/devspool-*

# Speed and memory beside the rivals', as ratios. Needs root and BusyBox.
bench: devspool
	go run ./hotplug/bench $(BENCH)

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@scripts/fuzz $(FUZZTIME)

clean:
	rm -rf devspool dist
