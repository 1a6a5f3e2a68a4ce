# devspool. "make run" shows it at work, "make test" proves it; see README.md.

# Budgets of the amd64 binary in bytes, stripped, and xz -9e: the whole, and what
# "make core" builds, for boards where nobody listens to events and mdev's names do.
SIZE_MAX    := 2640000
SIZE_XZ_MAX := 875000
CORE_MAX    := 1900000
CORE_XZ_MAX := 636000
TAGS        :=

space := $() $()
comma := ,

# How many milliseconds the first of the kernel's helpers stays after the last
# event, to do those of others; 0 for not at all.
STAY    := 2000

# In a tarball of "make dist" the file VERSION says what git does elsewhere.
VERSION := $(shell cat VERSION 2>/dev/null || git describe --tags --always --dirty 2>/dev/null || echo unreleased)

# What is not inlined saves 70 kB, and costs time only where every event passes. INLINE is the
# packages there, and those that are no larger for it.
NOINLINE := devspool/... golang.org/...
INLINE   := hotplug hotplug/applets hotplug/coldplug hotplug/eventlog hotplug/helper hotplug/loop \
	hotplug/modules hotplug/netlink hotplug/procfs hotplug/scheduler hotplug/spool hotplug/spool/applet \
	hotplug/spool/broker hotplug/sys hotplug/sysfs hotplug/uevent nodes nodes/journal

# The flags of "go build" for a GOARCH, $(1), each in quotes. LINK is more for the linker.
#
# Distributions set GOFLAGS=-buildmode=pie and external linking. Either gives a program that
# needs an interpreter, which an empty root does not have, and does not begin at our entry.
# What stands here comes after GOFLAGS and prevails.
LINK  :=
flags = -trimpath -buildmode=exe $(NOINLINE:%="-gcflags=%=-l") $(INLINE:%="-gcflags=devspool/%=") "-tags=$(TAGS)" "-ldflags=$(strip -linkmode=internal -s -w -buildid= \
	-X main.version=$(VERSION) -X main.stay=$(STAY) $(call entry,$(1)) $(call align,$(1)) $(LINK))"
GOBUILD := CGO_ENABLED=0 go build

# The collector of Go 1.25 is 45 kB smaller than that of 1.26, and as good for so small a
# heap. A go command that does not know the choice any more builds without it.
export GOEXPERIMENT := $(shell GOEXPERIMENT=nogreenteagc go env GOVERSION >/dev/null 2>&1 && echo nogreenteagc)
HOST    := $(shell GOEXPERIMENT= go env GOARCH)

# entry: where the process begins, see hotplug/handoff.
entry = $(if $(filter amd64 arm64 arm 386 riscv64 mipsle mips,$(1)),-E=devspool/hotplug/handoff.Entry)

# align: functions begin at multiples of 8 bytes where Go would have 16 or 32. The padding is
# 60 kB, and without it the program is no slower.
align = $(if $(filter amd64 arm64 386 s390x,$(1)),-funcalign=8)

# What a release goes through after "go build", see hotplug/kerneltest/build/striplines.
# KEEPLINES=yes is for a traceback that tells lines.
KEEPLINES  :=
striplines = $(if $(KEEPLINES),:,env -u GOOS -u GOARCH -u GOARM GOFLAGS= CGO_ENABLED=0 go run ./hotplug/kerneltest/build/striplines)

# program builds the target for a GOARCH, $(1), as it is released.
program = $(GOBUILD) $(call flags,$(1)) -o $@ . && $(striplines) $@

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ERRCHECK    := github.com/kisielk/errcheck@v1.30.0 -ignoretests -exclude $(CURDIR)/scripts/errcheck.exclude
DEADCODE    := golang.org/x/tools/cmd/deadcode@v0.52.0

# GOARCH, or GOARCH-GOARM; the boards that Linux runs on.
ARCHES := amd64 arm64 arm-6 386 riscv64 mipsle mips s390x
goarch  = $(word 1,$(subst -, ,$(arch)))
goarm   = $(word 2,$(subst -, ,$(arch)))

.PHONY: all build flags experiment budgets size core mkinitramfs run test check cross bench bench-helper bench-names bench-boot fuzz clean completions install uninstall dist deb bench-debian

all: build

build: devspool size

devspool: FORCE
	@$(call program,$(HOST))

FORCE:

# The flags of "go build" for GOARCH, a line each: hotplug/kerneltest/build asks for
# them, so that what is tested and measured is what is shipped.
flags:
	@printf '%s\n' $(call flags,$(HOST))

# GOEXPERIMENT, for the same.
experiment:
	@echo $(GOEXPERIMENT)

# The budgets, for the benchmark.
budgets:
	@echo $(SIZE_MAX) $(SIZE_XZ_MAX) $(CORE_MAX) $(CORE_XZ_MAX)

# Where "make install" puts things. LINKS are the other names of the program, in its directory: mdev,
# and, if they are asked for, udevadm and modprobe.
DESTDIR ?=
PREFIX  ?= /usr/local
SBINDIR  = $(PREFIX)/sbin
DATADIR  = $(PREFIX)/share
LINKS   := mdev
PAGES   := devspool.8 devspool-init.8 devspool-events.5 mdev.conf.5
SHELLS  := bash-completion/completions/devspool zsh/site-functions/_devspool fish/vendor_completions.d/devspool.fish

# The completions of shells, made from the tables of options by this machine's Go.
completions:
	@mkdir -p dist/completions
	@for shell in bash zsh fish; do \
		env -u GOOS -u GOARCH -u GOARM GOFLAGS= CGO_ENABLED=0 go run "-tags=completions,$(TAGS)" . $$shell >dist/completions/$$shell || exit 1; \
	done

# Install and uninstall name the same files. A link is taken away only if it is ours.
install: devspool completions
	install -d "$(DESTDIR)$(SBINDIR)" "$(DESTDIR)$(DATADIR)/man/man5" "$(DESTDIR)$(DATADIR)/man/man8"
	install -m 755 devspool "$(DESTDIR)$(SBINDIR)/devspool"
	for link in $(LINKS); do ln -sf devspool "$(DESTDIR)$(SBINDIR)/$$link" || exit 1; done
	for page in $(PAGES); do install -m 644 docs/$$page "$(DESTDIR)$(DATADIR)/man/man$${page##*.}/$$page" || exit 1; done
	for file in $(SHELLS); do \
		install -d "$(DESTDIR)$(DATADIR)/$${file%/*}" && \
		install -m 644 dist/completions/$${file%%[-/]*} "$(DESTDIR)$(DATADIR)/$$file" || exit 1; done

uninstall:
	rm -f "$(DESTDIR)$(SBINDIR)/devspool"
	for link in mdev udevadm modprobe $(LINKS); do link="$(DESTDIR)$(SBINDIR)/$$link"; \
		[ "$$(readlink "$$link")" != devspool ] || rm -f "$$link"; done
	for page in $(PAGES); do rm -f "$(DESTDIR)$(DATADIR)/man/man$${page##*.}/$$page"; done
	for file in $(SHELLS); do rm -f "$(DESTDIR)$(DATADIR)/$$file"; done

# The source of the commit that is checked out, as a tarball that is the same each time.
dist:
	@mkdir -p dist
	@version=$$(git describe --tags --always) && name=devspool-$$version && \
	git archive --format=tar --prefix=$$name/ --add-virtual-file=$$name/VERSION:$$version HEAD | gzip -9n >dist/$$name.tar.gz && \
	echo dist/$$name.tar.gz

# The Debian package of that commit, in dist/deb. Needs dpkg-dev and debhelper.
deb:
	@scripts/deb

# Prints the size of the binary and fails past the budget.
size: devspool
	@scripts/size devspool $(SIZE_MAX) $(SIZE_XZ_MAX)

# The same for the program without its parts: the spool (nospool), the names that devices
# deserve (nonames), libudev's side (noudev), and what an early boot needs (noboot).
PARTS := nospool nonames noudev noboot
core: dist/devspool-core
	@scripts/size dist/devspool-core $(CORE_MAX) $(CORE_XZ_MAX)

dist/devspool-core: TAGS = $(subst $(space),$(comma),$(PARTS))
dist/devspool-core: FORCE
	@$(call program,$(HOST))

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
test:
	@scripts/test

# What must hold before any test: format, vet, the linters, every architecture, and
# imports that run downward. Errcheck leaves tests alone: what they do not look at shows in
# what they do. The packer is a module of its own, which ./... does not enter.
check: cross core
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	@for tag in $(PARTS) $(subst $(space),$(comma),$(PARTS)); do echo go vet -tags $$tag ./...; go vet -tags $$tag ./... || exit 1; done
	go vet -tags completions .
	go run $(STATICCHECK) ./...
	go run $(ERRCHECK) ./...
	go run $(ERRCHECK) -tags $(subst $(space),$(comma),$(PARTS)) ./...
	scripts/deadcode $(DEADCODE)
	cd $(PACKER) && go vet ./... && go run $(STATICCHECK) ./... && go run $(ERRCHECK) ./...
	go test -count=1 -run "TestArrows|TestArchitecture" ./hotplug/systemtest
	DEVSPOOL_BUILT="$(abspath dist/devspool-core $(ARCHES:%=dist/devspool-%))" go test -count=1 -run "TestBoot" ./hotplug/kerneltest/build

cross: $(ARCHES:%=dist/devspool-%)
	@scripts/size -l $^

# The program for one of ARCHES: the packer of boot images asks for it.
$(ARCHES:%=dist/devspool-%): arch = $(@:dist/devspool-%=%)
$(ARCHES:%=dist/devspool-%): FORCE
	@export GOOS=linux GOARCH=$(goarch) GOARM=$(goarm); $(call program,$(goarch))

# Speed and memory beside the rivals', as ratios. Needs root and BusyBox.
bench: devspool
	go run ./hotplug/bench $(BENCH)

# The kernel's helper alone: a process for each event. Beside it, under User Mode
# Linux, the time from insmod to 128 disks in /dev.
bench-helper:
	go run ./hotplug/bench -only helper $(BENCH)
	@DEVSPOOL_BENCH=1 go test -count=1 -v -run TestTimeToDisks ./initramfs/boot | grep -E 'from insmod|NOT TESTED|FAIL|^ok'

# What the names of devices cost: beside a program without them and, under User Mode
# Linux, beside BusyBox mdev with a script that calls blkid.
bench-names:
	go run ./hotplug/bench -only names $(BENCH)
	@DEVSPOOL_BENCH=1 go test -count=1 -v -run TestNamesCPU ./initramfs/boot | grep -E 'CPU for the names|NOT TESTED|FAIL|^ok'

# From /init to the root mounted, under QEMU: beside BusyBox's mdev with a modprobe for each
# alias, and beside a boot that has all devices first. Then all modules of a machine, beside
# kmod's modprobe.
bench-boot:
	@DEVSPOOL_BENCH=1 go test -count=1 -v -timeout 30m -run "TestTimeToRoot|TestTimeToModules" ./initramfs/boot | grep -E 'root_test|speed_test|NOT TESTED|FAIL|^ok'

# The same beside udev, in the images that Debian's initramfs-tools make: their sizes, and from
# /init to the system's init.
bench-debian:
	@DEVSPOOL_BENCH=1 go test -count=1 -v -timeout 60m -run TestDebianTimeToRoot ./initramfs/boot | grep -E 'debian_test|NOT TESTED|FAIL|^ok'

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 20s
fuzz:
	@scripts/fuzz $(FUZZTIME)

clean:
	rm -rf devspool dist
