SUMMARY = "Coracle's two processes and command on a board"
DESCRIPTION = "coracle-supervisor verifies what the developers signed and runs it in containers; \
coracled, which holds no capability, links the board to its fleet; coracle shows both to people. \
The three are one file, coracle-agent, which goes by the name that it is called by."

require recipes-coracle/coracle-workspace.inc

CORACLE_PACKAGES = "coracle-agent"

inherit systemd update-rc.d useradd

# A package of its own for each, since each has a unit and an init script of its own.
PACKAGES =+ "coracle-program coracle-supervisor coracled coracle-cli coracle-config"

do_install:append() {
    # The cargo class puts the program in bindir; the supervisor is root's.
    install -d ${D}${sbindir}
    lnr=$(realpath --no-symlinks --relative-to=${sbindir} ${bindir}/coracle-agent)
    ln -s $lnr ${D}${sbindir}/coracle-supervisor
    ln -s coracle-agent ${D}${bindir}/coracled
    ln -s coracle-agent ${D}${bindir}/coracle

    install -d ${D}${sysconfdir}/coracle/boards
    install -m 0644 ${S}/config/coracle.toml ${D}${sysconfdir}/coracle/
    install -m 0644 ${S}/config/boards/*.toml ${D}${sysconfdir}/coracle/boards/

    install -d ${D}${nonarch_base_libdir}/udev/rules.d
    install -m 0644 ${S}/config/udev/90-coracle-stick.rules ${D}${nonarch_base_libdir}/udev/rules.d/

    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -d ${D}${systemd_system_unitdir} ${D}${nonarch_libdir}/tmpfiles.d
        install -m 0644 ${S}/config/systemd/*.service ${S}/config/systemd/*.slice ${D}${systemd_system_unitdir}/
        install -m 0644 ${S}/config/tmpfiles.d/coracle.conf ${D}${nonarch_libdir}/tmpfiles.d/
    fi
    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        install -d ${D}${sysconfdir}/init.d
        install -m 0755 ${S}/config/sysvinit/coracle-supervisor ${D}${sysconfdir}/init.d/
        install -m 0755 ${S}/config/sysvinit/coracled ${D}${sysconfdir}/init.d/
    fi
}

FILES:coracle-program += "${bindir}/coracle-agent"
FILES:coracle-cli += "\
    ${bindir}/coracle \
    ${nonarch_base_libdir}/udev/rules.d/90-coracle-stick.rules \
    ${systemd_system_unitdir}/coracle-stick@.service \
"
FILES:coracle-supervisor += "\
    ${sbindir}/coracle-supervisor \
    ${sysconfdir}/init.d/coracle-supervisor \
    ${systemd_system_unitdir}/coracle-supervisor.service \
    ${systemd_system_unitdir}/coracle.slice \
"
FILES:coracled += "\
    ${bindir}/coracled \
    ${sysconfdir}/init.d/coracled \
    ${systemd_system_unitdir}/coracled.service \
"
FILES:coracle-config += "${sysconfdir}/coracle ${nonarch_libdir}/tmpfiles.d"
CONFFILES:coracle-config = "${sysconfdir}/coracle/coracle.toml"

# coracle-agent itself is empty and brings the others.
ALLOW_EMPTY:${PN} = "1"
RDEPENDS:${PN}:class-target = "coracle-supervisor coracled"
RDEPENDS:coracle-supervisor = "coracle-config coracle-program"
RDEPENDS:coracled = "ca-certificates coracle-config coracle-program"
RDEPENDS:coracle-cli = "coracle-program"

# What the fragment makes modules; built in, they need not be there.
RRECOMMENDS:coracle-supervisor = " \
    kernel-module-overlay \
    kernel-module-bridge \
    kernel-module-veth \
    kernel-module-nf-tables \
    kernel-module-nft-chain-nat \
    kernel-module-nft-ct \
    kernel-module-nft-masq \
    kernel-module-nft-nat \
"

SYSTEMD_PACKAGES = "coracle-supervisor coracled"
SYSTEMD_SERVICE:coracle-supervisor = "coracle-supervisor.service"
SYSTEMD_SERVICE:coracled = "coracled.service"

INITSCRIPT_PACKAGES = "coracle-supervisor coracled"
INITSCRIPT_NAME:coracle-supervisor = "coracle-supervisor"
INITSCRIPT_PARAMS:coracle-supervisor = "defaults 60 40"
INITSCRIPT_NAME:coracled = "coracled"
INITSCRIPT_PARAMS:coracled = "defaults 61 39"

USERADD_PACKAGES = "coracle-config"
USERADD_PARAM:coracle-config = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/coracle --shell /sbin/nologin coracle"

# For a build that is tried without a board: the programs alone, for the machine that builds.
BBCLASSEXTEND = "native"
