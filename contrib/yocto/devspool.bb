SUMMARY = "Turns the kernel's device events into a correct /dev"
LICENSE = "ISC"
LIC_FILES_CHKSUM = "file://src/${GO_IMPORT}/LICENSE;md5=e2eef24cf2a18c1e374f986bf49dfac3"

# The tarball that "make dist" makes, beside the recipe. Set VIRTUAL-RUNTIME_dev_manager = "devspool".
PV = "0"
SRC_URI = "file://devspool-${PV}.tar.gz;subdir=${GO_SRCURI_DESTSUFFIX}"
GO_IMPORT = "devspool"
GO_INSTALL = "${GO_IMPORT}"

inherit go-mod update-alternatives

# A static program that needs no interpreter, and begins at our entry: go.bbclass would
# make a PIE that an empty root cannot start.
CGO_ENABLED = "0"
GO_LINKSHARED = ""
GOBUILDFLAGS:remove = "-buildmode=pie"
GO_EXTRA_LDFLAGS = "-linkmode=internal -s -w -X main.version=${PV} -X main.stay=2000 -E=devspool/hotplug/handoff.Entry"
INSANE_SKIP:${PN} += "already-stripped"

do_compile[network] = "1"

do_install() {
	install -D -m 755 ${B}/${GO_BUILD_BINDIR}/devspool ${D}${base_sbindir}/devspool
}

ALTERNATIVE:${PN} = "mdev"
ALTERNATIVE_LINK_NAME[mdev] = "${base_sbindir}/mdev"
ALTERNATIVE_TARGET[mdev] = "${base_sbindir}/devspool"
ALTERNATIVE_PRIORITY = "100"
