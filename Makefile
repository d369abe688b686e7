# Coracle's entry points. Each sets up what it needs (Debian packages included) and can be run again.
#
#   make demo     the whole loop on this machine, told step by step   (KEEP=1 leaves it up)
#   make test     everything that must hold, as root                  (CI runs this)
#   make check    formatting, lints, licences, dependency arrows      (part of test)
#   make boards   the root tests on kernels and cgroups that are not this machine's, in QEMU (BOARDS=x86-64 for one; with KERNEL=FOLDER on a kernel of your own, as its `make tar-pkg` unpacks)
#   make shipped  a board in QEMU that boots its disk as it ships, and the whole loop with it (BOARDS=x86-64 for one, QUICK=1 without limits, sticks and another agent, MEMORY=128 for its MiB, SITE=FILE for its board.toml, TABLE=1 writes docs/boards.md)
#   make leaks    launches and restarts many times over, a supervisor killed at every step, and what is left (CYCLES=10000; an hour and a half)
#   make powercut a board whose power is cut again and again while it is updated (CUTS=200 BOOTS=10 SEED=1; TABLE=docs/power-cuts.md puts the run into it), and its
#                 processes killed before every system call of a fetch, of a layer's unpacking, of changes between versions and of a whole update (WALK=no leaves that out)
#   make arm      the board's programs for 64-bit and 32-bit ARM, static, each within its budget of 6 MiB
#   make static   the same for x86-64, for a board where nobody else uses the C library
#   make bench    measurements beside other tools → docs/benchmarks.md (PART=memory for one, printed only; PART="--keep memory" puts it into the page: sizes launch oci idle inside network delta writes memory)
#   make bench-deltas   deltas between real versions beside other tools → docs/benchmarks-deltas.md (PAIR=name for one, TOOL=name for one tool; an hour)
#   make bench-deltas-arm OLD=DIR NEW=DIR   instructions that decoding the delta between two folders takes on x86-64, arm64 and armv7
#   make install DESTDIR=DIR   programs, units, settings and profiles below DIR (PARTS="agent cli console release")
#   make deb      Debian packages in target/debian (DEB_ARCH=arm64 PROGRAMS=DIR for programs built elsewhere)
#   make yocto OE=DIR          meta-coracle against a checkout of openembedded-core, with bitbake inside it or beside it
#   make conformance SUITE=dir [RUNTIME=path]   coracle-runtime against a checkout of runtime-tools or youki, here and where it asks for another layout of cgroups in a virtual board, the console's registry against one of distribution-spec → docs/conformance.md

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: demo test room check boards shipped powercut leaks arm static bench bench-deltas bench-deltas-arm conformance setup setup-boards setup-arm64-board setup-arm-boards setup-bench clean help

CARGO ?= cargo
# A whole build's incremental state takes 10 GB of disk, and a fresh clone has no use for it.
export CARGO_INCREMENTAL ?= 0
PACKAGES := build-essential pkg-config curl ca-certificates openssl iproute2 nftables ethtool mosquitto mosquitto-clients \
	skopeo podman buildah docker-registry softhsm2 swtpm dbus-daemon mtools dosfstools busybox-static btrfs-progs faketime util-linux procps python3 systemd zstd
BOARD_PACKAGES := qemu-system-x86 xz-utils e2fsprogs xfsprogs f2fs-tools criu mmdebstrap
ARM64_PACKAGES := qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross
ARMHF_PACKAGES := gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
ARM_PACKAGES := gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross qemu-user-static
BENCH_PACKAGES := time crun runc bubblewrap lxc systemd-container patchelf sysbench xdelta3 zstd iperf3 podman containernetworking-plugins iptables
# Tests of virtual boards, which `cargo test` runs when they are named.
ON_BOARDS := --test virtual_board --test power_cut --test shipped_board
DELTA_PACKAGES := time xdelta3 zstd bsdiff rdiff ostree casync diffutils npm python3-pip
# A mirror that is being synchronised has some lists and not others: what is missing is told by the install.
UPDATE := { apt-get update -qq || echo "apt-get update failed in part: going on with the lists that are there"; }
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
# The example app is one static file; a folder of its own keeps it apart from the dynamic build of the workspace.
EXAMPLE := $(CARGO) rustc --quiet --package coracle-example-hello --release --target-dir $(TARGET)/static -- -C target-feature=+crt-static

# coracle-runtime is started once for each thing that an engine wants: static and at a fixed address it is in main in half the
# time, and small pages of code stay small; GNU's linker lays rare code apart (docs/launch.md).
OCI := $(CARGO) rustc --quiet --package coracle-oci --bin coracle-runtime --release --target-dir $(TARGET)/static -- \
	-C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,-z,noseparate-code -C link-arg=-fuse-ld=bfd

help:
	@sed -n '/^#   make/s/^#   //p' Makefile

# Installs what is missing, and says what. Whoever has another docker client keeps it, and gets an engine beside it that is not started.
setup:
	@test "$$(id -u)" = 0 || { echo "this needs root: it makes namespaces, cgroups and containers (sudo make $(MAKECMDGOALS))"; exit 1; }
	missing=()
	for p in $(PACKAGES); do
	  [ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$p" 2>/dev/null)" = installed ] || missing+=("$$p")
	done
	command -v dockerd >/dev/null || missing+=(docker.io)
	command -v $(CARGO) >/dev/null || { echo "cargo is missing: install Rust 1.90 or newer (rustup.rs)"; exit 1; }
	if [ $${#missing[@]} -gt 0 ]; then
	  echo "installing: $${missing[*]}"
	  $(UPDATE)
	  erlang=$$(dpkg-query -W -f='$${db:Status-Status}' erlang-base 2>/dev/null || true)
	  # A packaged broker must not start by itself: the console and the tests start their own.
	  printf '#!/bin/sh\nexit 101\n' > /tmp/coracle-policy && chmod +x /tmp/coracle-policy
	  had=1; [ -e /usr/sbin/policy-rc.d ] || { had=0; cp /tmp/coracle-policy /usr/sbin/policy-rc.d; }
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" > /tmp/coracle-setup.log 2>&1 \
	    || { tail -20 /tmp/coracle-setup.log; [ $$had = 1 ] || rm -f /usr/sbin/policy-rc.d; exit 1; }
	  [ $$had = 1 ] || rm -f /usr/sbin/policy-rc.d
	  # Nor at the next boot, where Debian's settings let everybody in; nor now, by a policy of the machine's own. What was here before stays as it is.
	  for own in docker-registry nats-server rabbitmq-server; do
	    case " $${missing[*]} " in *" $$own "*) systemctl disable --quiet --now $$own 2>/dev/null || true ;; esac
	  done
	  if [ "$$erlang" != installed ]; then systemctl disable --quiet --now epmd.service epmd.socket 2>/dev/null || true; fi
	fi
	apt-cache show python3.11-minimal >/dev/null 2>&1 || $(UPDATE)

demo: setup
	@echo "building (the first time takes some minutes) …"
	$(CARGO) build --workspace --bins
	$(EXAMPLE)
	$(TARGET)/debug/coracle-demo $(if $(KEEP),--keep)

check:
	@$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	$(CARGO) clippy --workspace --all-features $(ON_BOARDS) -- -D warnings
	command -v cargo-deny >/dev/null || { echo "installing cargo-deny"; $(CARGO) install --quiet --locked cargo-deny; }
	$(CARGO) deny --all-features check bans licenses sources
	$(CARGO) test -q -p coracle-tests --test dependency_arrows

# Better told before than after half an hour.
room:
	@free=$$(df --output=avail --block-size=M . | tail -1 | tr -dc 0-9)
	built=$$([ ! -d $(TARGET) ] || { du --summarize --block-size=M $(TARGET) 2>/dev/null || true; } | tr -dc '0-9\t' | cut -f1)
	[ $$(( free + $${built:-0} )) -ge 9500 ] || { echo "a whole build and its tests take 9.5 GB of disk: $$free MB are free beside the $${built:-0} MB of $(TARGET)"; exit 1; }

# Brokers of another make, for the tests alone.
test: PACKAGES += nats-server rabbitmq-server
test: room setup setup-arm64-board check
	@$(CARGO) build --workspace --bins
	$(EXAMPLE)
	$(CARGO) test --workspace --no-run
	$(CARGO) test --workspace --no-run $(ON_BOARDS)
	# A board in QEMU takes one processor, and the others mostly wait, for trials and grace times: side by side.
	echo "virtual boards in the background: $(TARGET)/test-boards.log"
	set -m
	$(CARGO) test --workspace --no-fail-fast $(ON_BOARDS) -- --test-threads=1 > $(TARGET)/test-boards.log 2>&1 &
	boards=$$!
	# More of the supervisor's than there are processors. Into a file: a pipe would be waited for as long as anything that a test left has it.
	$(CARGO) test --workspace --no-fail-fast -- --test-threads=8 > $(TARGET)/test.log 2>&1 &
	tests=$$!
	set +m
	trap 'kill -- -$$boards -$$tests 2>/dev/null || true' EXIT
	failed=0
	tail --pid=$$tests --lines=+1 --follow $(TARGET)/test.log
	wait $$tests || failed=1
	echo "the virtual boards:"
	tail --pid=$$boards --lines=+1 --follow $(TARGET)/test-boards.log
	wait $$boards || failed=1
	[ $$failed = 0 ] || {
	  printf '\nWhat failed, once more (everything said is in %s):\n' "$(TARGET)/test.log and $(TARGET)/test-boards.log"
	  # The beginning and the end of each, without the frames of its backtrace.
	  awk 'function rest(  i) {for (i = lines > 35 ? lines - 15 : 20; i < lines; i++) print last[i % 15]; lines=0}
	    FNR == 1 {on=0} /^ +Running /{name=$$0} /^failures:$$/{if (!on) print name; on=1} /^----/{rest()}
	    on && !/^ +[0-9]+: |^ +at / {if (lines++ < 20) print; last[(lines - 1) % 15]=$$0} /^test result/{rest(); on=0}' \
	    $(TARGET)/test.log $(TARGET)/test-boards.log | cut -c1-300
	  grep -h -A20 '^error: ' $(TARGET)/test.log $(TARGET)/test-boards.log | tail -n 30
	  exit 1
	}

# Installs those of the packages $(1) that are missing, and says which.
define install
missing=()
for p in $(1); do
  [ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$p" 2>/dev/null)" = installed ] || missing+=("$$p")
done
if [ $${#missing[@]} -gt 0 ]; then
  echo "installing: $${missing[*]}"; $(UPDATE)
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" > /tmp/coracle-setup.log 2>&1 \
    || { tail -20 /tmp/coracle-setup.log; exit 1; }
fi
endef

# Kernels are fetched and unpacked below the target folder by coracle-boards, and not installed.
setup-boards: setup
	@$(call install,$(BOARD_PACKAGES))
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || $(UPDATE)

# Rust's libraries for $(1), where they are not there.
define rust_target
[ -d "$$(rustc --print target-libdir --target $(1))" ] || { echo "adding Rust's $(1)"; rustup --quiet target add $(1); }
endef

# As setup-boards, for 64-bit ARM: a compiler for C, which links, and Rust's libraries. The foreign architecture is for
# downloading a kernel; nothing of it is installed.
setup-arm64-board: setup-boards
	@$(call install,$(ARM64_PACKAGES))
	$(call rust_target,aarch64-unknown-linux-gnu)
	dpkg --print-foreign-architectures | grep -qx arm64 || { echo "adding Debian's architecture arm64"; dpkg --add-architecture arm64; }
	apt-cache show linux-image-arm64:arm64 >/dev/null 2>&1 || $(UPDATE)

setup-arm-boards: setup-arm64-board
	@$(call install,$(ARMHF_PACKAGES))
	$(call rust_target,armv7-unknown-linux-gnueabihf)

boards: setup-arm-boards
	@$(CARGO) build --quiet --package coracle-tests --bin coracle-boards
	$(TARGET)/debug/coracle-boards $(if $(KERNEL),--kernel "$(KERNEL)") $(BOARDS)

shipped: setup-arm-boards
	@$(CARGO) build --quiet --workspace --bins
	$(TARGET)/debug/coracle-boards shipped $(if $(QUICK),--quick) $(if $(MEMORY),--memory $(MEMORY)) $(if $(SITE),--site "$(SITE)") $(if $(TABLE),--table) $(BOARDS)

CYCLES ?= 10000
leaks: setup
	@CORACLE_CYCLES=$(CYCLES) $(CARGO) test --quiet -p coracle-runtime --test container -- cycles::
	CORACLE_CYCLES=$(CYCLES) $(CARGO) test --quiet -p coracle-oci --test cycles
	CORACLE_CYCLES=$(CYCLES) $(CARGO) test --quiet -p coracle-supervisor --test cycles
	CORACLE_CUTS=all $(CARGO) test --quiet -p coracle-supervisor --test network_cuts

CUTS ?= 200
BOOTS ?= 10
SEED ?= 1
WALK ?= all
powercut: setup-boards
	@$(CARGO) build --quiet --workspace --bins
	$(TARGET)/debug/coracle-boards powercut --cuts $(CUTS) --boots $(BOOTS) --seed $(SEED) $(if $(TABLE),--table "$(TABLE)")
	[ $(WALK) = no ] || CORACLE_CUTS=$(WALK) $(CARGO) test --quiet --workspace --test stage_cuts --test fetch_cuts --test live_cuts --test hand_over_cuts --test data_version --test deployment_cuts -- --nocapture --test-threads=1

# Each is started once, in emulation: a program that cannot tell its version is no program.
arm: setup
	@$(call install,$(ARM_PACKAGES))
	built=()
	# Thumb instructions are a quarter shorter; each ARMv7 has them. rustc warns that it may name them otherwise one day.
	for board in aarch64-unknown-linux-gnu:aarch64-linux-gnu-gcc:aarch64: armv7-unknown-linux-gnueabihf:arm-linux-gnueabihf-gcc:arm:+thumb-mode; do
	  IFS=: read -r triple linker machine features <<< "$$board"
	  $(call rust_target,"$$triple")
	  $(CARGO) fetch --quiet --target "$$triple"
	  name=$${triple//-/_}
	  export "CC_$$name=$$linker" "CARGO_TARGET_$${name^^}_LINKER=$$linker" "CARGO_TARGET_$${name^^}_RUSTFLAGS=$$(agent/board/flags.sh $$features)"
	  echo "building for $$triple …"
	  $(CARGO) build --quiet --release --target "$$triple" -p coracle-agent
	  folder=$(TARGET)/$$triple/release
	  built+=("$$folder/coracle-agent")
	  for program in coracle-supervisor coracled coracle; do
	    printf '%-30s   %s\n' "$$triple" "$$(qemu-$$machine-static -0 "$$program" "$$folder/coracle-agent" --version)"
	  done
	done
	agent/board/budget.sh "$${built[@]}"

static: setup
	@$(CARGO) rustc --quiet --package coracle-agent --bin coracle-agent --release --target-dir $(TARGET)/static -- -C target-feature=+crt-static
	agent/board/budget.sh $(TARGET)/static/release/coracle-agent

setup-bench: setup
	@$(call install,$(BENCH_PACKAGES))

bench: setup-bench
	@$(CARGO) build --release --workspace --bins --examples
	# As it ships: without what other programs of the workspace want of the same crates.
	$(CARGO) build --release --package coracle-agent
	$(EXAMPLE)
	$(OCI)
	$(TARGET)/release/coracle-bench $(PART)

# npm and pip of this machine are used where it has them: they know its registries.
bench-deltas: setup
	@packages="$(DELTA_PACKAGES)"
	for own in npm pip:python3-pip; do
	  if command -v "$${own%%:*}" >/dev/null; then packages=$${packages/$${own##*:}/}; fi
	done
	$(call install,$$packages)
	$(CARGO) build --release -p coracle-release -p coracle-tests --bin coracle-release --bin coracle-bench-deltas
	$(TARGET)/release/coracle-bench-deltas $(if $(TOOL),--tool "$(TOOL)") $(if $(PAIR),"$(PAIR)")

bench-deltas-arm: setup
	@[ -d "$(OLD)" ] && [ -d "$(NEW)" ] || { echo "give two folders: make bench-deltas-arm OLD=DIR NEW=DIR"; exit 1; }
	$(call install,$(ARM_PACKAGES) qemu-user)
	$(call rust_target,aarch64-unknown-linux-gnu)
	$(call rust_target,armv7-unknown-linux-gnueabihf)
	CARGO="$(CARGO)" images/benches/instructions.sh "$(OLD)" "$(NEW)"

# Both take programs that were built elsewhere, for another architecture, by PROGRAMS=DIR.
PARTS ?= agent cli
DEB_ARCH ?= $(shell dpkg --print-architecture 2>/dev/null)
# The board's by itself: together, each would have what the others want of the crates that they share.
define release
$(CARGO) build --release --package coracle-console --package coracle-release
$(CARGO) build --release --package coracle-agent
agent/board/budget.sh $(TARGET)/release/coracle-agent
endef

.PHONY: install deb yocto
install:
	@if [ -z "$(PROGRAMS)" ]; then
	$(release)
	fi
	config/install.sh "$(or $(PROGRAMS),$(TARGET)/release)" "$(DESTDIR)" $(PARTS)

deb:
	@if [ -z "$(PROGRAMS)" ]; then
	$(release)
	fi
	config/debian/build.sh "$(or $(PROGRAMS),$(TARGET)/release)" "$(DEB_ARCH)" "$(or $(OUTPUT),$(TARGET)/debian)"

yocto:
	@yocto-layer/check.sh "$(OE)"

# The suites' sources stay outside. GO=path names a go 1.21 or newer, for distribution-spec 1.24.
conformance: setup
	@[ -n "$(SUITE)" ] || { echo "SUITE= must name a checkout of opencontainers/runtime-tools, youki-dev/youki or opencontainers/distribution-spec"; exit 1; }
	if [ -e "$(SUITE)/conformance/go.mod" ]; then
	$(CARGO) build --quiet --package coracle-console --package coracle-release
	exec console/conformance.sh "$(SUITE)" $(TARGET)/debug/coracle-console $(TARGET)/debug/coracle-release $(OUT)
	fi
	$(call install,$(BOARD_PACKAGES))
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 || $(UPDATE)
	$(CARGO) build --quiet --workspace --bins
	agent/oci/conformance.sh "$(SUITE)" "$(if $(RUNTIME),$(RUNTIME),$$(realpath $(TARGET)/debug/coracle-runtime))" "$(or $(OUT),$$(mktemp -d))" "$$(realpath $(TARGET)/debug/coracle-boards)"

clean:
	$(CARGO) clean
	rm -rf /tmp/coracle-demo-cache
