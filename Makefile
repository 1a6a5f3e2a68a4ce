# devspool. "make run" shows it at work, "make test" proves it; see README.md.

# Budgets of the amd64 binary in bytes, stripped, and xz -9e: the whole, and what
# "make TAGS=nospool,noboot" builds, for boards where nobody listens to events.
SIZE_MAX    := 2680000
SIZE_XZ_MAX := 925000
CORE_MAX    := 2390000
CORE_XZ_MAX := 838000
TAGS        :=

# How many milliseconds the first of the kernel's helpers stays after the last
# event, to do those of others; 0 for not at all.
STAY    := 2000

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
LDFLAGS := -s -w -buildid= -X main.version=$(VERSION) -X main.stay=$(STAY)
# Our own code is not inlined: that saves 50 kB, and costs no time that shows.
GOBUILD := CGO_ENABLED=0 go build -trimpath -gcflags=devspool/...=-l

# ENTRY: where the process begins on $(1), a GOARCH: see hotplug/handoff.
entry = $(if $(filter amd64 arm64 arm 386 riscv64 mipsle mips,$(1)),-E=devspool/hotplug/handoff.Entry)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# GOARCH, or GOARCH-GOARM; the boards that Linux runs on.
ARCHES := amd64 arm64 arm-6 386 riscv64 mipsle mips s390x
goarch  = $(word 1,$(subst -, ,$(arch)))
goarm   = $(word 2,$(subst -, ,$(arch)))

.PHONY: all build size core mkinitramfs run test check cross bench bench-helper fuzz clean

all: build

build: devspool size

devspool: FORCE
	@$(GOBUILD) -tags="$(TAGS)" -ldflags="$(LDFLAGS) $(call entry,$(shell go env GOARCH))" -o $@ .

FORCE:

# Prints the size of the binary and fails past the budget.
size: devspool
	@scripts/size devspool $(SIZE_MAX) $(SIZE_XZ_MAX)

# The same for the program without the spool, and without what an early boot needs.
core:
	@$(GOBUILD) -tags=nospool,noboot -ldflags="$(LDFLAGS) $(call entry,$(shell go env GOARCH))" -o dist/devspool-core .
	@scripts/size dist/devspool-core $(CORE_MAX) $(CORE_XZ_MAX)

# The packer of boot images, as a program: dist/mkinitramfs. "go run
# ./initramfs/mkinitramfs" runs it without.
PACKER := initramfs/mkinitramfs/packer
mkinitramfs:
	@GOWORK=off CGO_ENABLED=0 go build -C $(PACKER) -trimpath -ldflags="-s -w -buildid=" -o $(CURDIR)/dist/mkinitramfs .

# Coldplugs this machine's /sys into a scratch directory and follows live events
# until Ctrl-C, or for FOR seconds. The machine's /dev is not touched.
run: devspool
	@scripts/run $(FOR)

# All tests: fetches what they need where it can, and says what was not tested.
test: devspool
	@scripts/test

# What must hold before any test: format, vet, staticcheck, every architecture, and
# imports that run downward. The packer is a module of its own, which ./... does not
# enter.
check: cross core
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	go vet -tags nospool .
	go vet -tags noboot .
	go run $(STATICCHECK) ./...
	cd $(PACKER) && go vet ./... && go run $(STATICCHECK) ./...
	go test -count=1 -run TestArrows .

cross: $(ARCHES:%=dist/devspool-%)
	@scripts/size -l $^

# The program for one of ARCHES: the packer of boot images asks for it.
$(ARCHES:%=dist/devspool-%): arch = $(@:dist/devspool-%=%)
$(ARCHES:%=dist/devspool-%): FORCE
	@GOOS=linux GOARCH=$(goarch) GOARM=$(goarm) \
		$(GOBUILD) -tags="$(TAGS)" -ldflags="$(LDFLAGS) $(call entry,$(goarch))" -o $@ .

# Speed and memory beside the rivals', as ratios. Needs root and BusyBox.
bench: devspool
	go run ./hotplug/bench $(BENCH)

# The kernel's helper alone: a process for each event. Beside it, under User Mode
# Linux, the time from insmod to 128 disks in /dev.
bench-helper:
	go run ./hotplug/bench -only helper $(BENCH)
	@DEVSPOOL_BENCH=1 go test -count=1 -v -run TestTimeToDisks ./initramfs/boot | grep -E 'from insmod|NOT TESTED|FAIL|^ok'

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@scripts/fuzz $(FUZZTIME)

clean:
	rm -rf devspool dist
