################################################################################
#
# devspool
#
################################################################################

# The tarball that "make dist" makes, in the download directory.
DEVSPOOL_VERSION = 0
DEVSPOOL_SITE = $(DL_DIR)
DEVSPOOL_SITE_METHOD = file
DEVSPOOL_LICENSE = ISC
DEVSPOOL_LICENSE_FILES = LICENSE
DEVSPOOL_GOMOD = devspool

# Its own Makefile has the flags: a static program that begins at our entry.
define DEVSPOOL_BUILD_CMDS
	$(HOST_GO_TARGET_ENV) $(MAKE) -C $(@D) devspool VERSION=$(DEVSPOOL_VERSION)
endef

define DEVSPOOL_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 755 $(@D)/devspool $(TARGET_DIR)/sbin/devspool
	ln -sf devspool $(TARGET_DIR)/sbin/mdev
endef

define DEVSPOOL_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 755 $(DEVSPOOL_PKGDIR)/S10devspool $(TARGET_DIR)/etc/init.d/S10devspool
endef

$(eval $(golang-package))
