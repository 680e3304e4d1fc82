# The only door: every command that the project needs is a target here.
SHELL := /bin/bash
# Asked when it is needed: what decides it is installed by `toolchain`.
TRIPLE = $(shell packaging/target.sh)
RCON = target/$(TRIPLE)/release/rcon
FIXTURES := target/fixtures
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help toolchain deb scale run build test lint unit integration test-cgroup2 conformance conformance-cgroup2 build-corpus build-real bench bench-pull bench-network bench-build fuzz fixtures install clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile

toolchain: # what is needed to build
	@packaging/install-packages.sh build
	@packaging/target.sh install > /dev/null

build: toolchain ## the release binary
	cargo build --release --target $(TRIPLE)
	@ln -sfn rcon target/$(TRIPLE)/release/rcon-runtime

run: build $(FIXTURES)/busybox.tar ## build everything and run a container with limits
	@$(SUDO) packaging/demo.sh $(RCON) $(FIXTURES)/busybox.tar

test: ## all tests: unit, command line, integration, cgroup v2 guest
	@packaging/install-packages.sh build test peers
	@packaging/target.sh install > /dev/null
	@$(MAKE) --no-print-directory $(FIXTURES)/busybox.tar
	@# The other fixtures wait for the network most of the time: they are made while the tests are compiled.
	@$(MAKE) --no-print-directory fixtures > target/fixtures.log 2>&1 & made=$$!; trap 'kill $$made 2> /dev/null' EXIT; \
		$(MAKE) --no-print-directory lint unit && { wait $$made || { cat target/fixtures.log; exit 1; }; }
	@$(MAKE) --no-print-directory integration

lint: ## format and lints; the other house rules are tests/tidy.rs
	cargo fmt --check
	cargo clippy --quiet --target $(TRIPLE) --all-targets --features failpoints -- -D warnings

unit: $(FIXTURES)/busybox.tar ## unit and command-line tests
	$(SUDO) env "PATH=$$PATH" RCON_TEST_FIXTURES=$(CURDIR)/$(FIXTURES) tests/perform.sh --target $(TRIPLE) --features failpoints

integration: build fixtures ## real peers, real registry, kill -9, cgroup v2 guest
	$(SUDO) integration/run.sh $(CURDIR)/$(RCON) $(CURDIR)/$(FIXTURES)

build-corpus: build $(FIXTURES)/busybox.tar ## Dockerfiles of one feature each, built by rcon, docker's classic builder and buildah, and compared
	@packaging/install-packages.sh peers
	$(SUDO) unshare --net --mount --propagation private bash -c 'ip link set lo up; exec "$$@"' corpus integration/build-corpus.py --rcon $(CURDIR)/$(RCON) --image $(CURDIR)/$(FIXTURES)/busybox.tar --peers docker,buildah

build-real: build $(FIXTURES)/debian.tar ## nginx, Redis, MariaDB, Python, Node and Rust images, built with packages from the network, run and asked
	$(SUDO) env RCON=$(CURDIR)/$(RCON) FIXTURES=$(CURDIR)/$(FIXTURES) BUILD_CA=$(BUILD_CA) BUILD_PIP=$(BUILD_PIP) BUILD_NPM=$(BUILD_NPM) integration/real-builds.sh

test-cgroup2: build $(FIXTURES)/busybox.tar $(FIXTURES)/kernel/vmlinuz ## limits in a guest with pure cgroup v2
	@packaging/install-packages.sh test
	$(SUDO) integration/cgroup2/run.sh $(CURDIR)/$(RCON) $(CURDIR)/$(FIXTURES)

conformance: build $(FIXTURES)/busybox.tar ## the OCI runtime-spec, case by case: runc, crun and rcon side by side
	@packaging/install-packages.sh test
	$(SUDO) env RCON=$(CURDIR)/$(RCON) FIXTURES=$(CURDIR)/$(FIXTURES) CONFORMANCE_JSON=$(CURDIR)/target/conformance.json integration/conformance.sh

conformance-cgroup2: build $(FIXTURES)/busybox.tar $(FIXTURES)/guest.ext4 ## the same in a guest with pure cgroup v2
	@packaging/install-packages.sh test
	$(SUDO) env GUEST_SECONDS=1500 integration/cgroup2/guest.sh $(CURDIR)/$(RCON) $(CURDIR)/$(FIXTURES) integration/conformance/in-guest.sh

bench: build $(FIXTURES)/busybox.tar ## against docker and podman, and rcon-runtime against crun, runc and youki, interleaved
	@packaging/install-packages.sh bench
	$(SUDO) unshare --net --mount --propagation private integration/bench/run.sh --rcon $(CURDIR)/$(RCON) --image $(CURDIR)/$(FIXTURES)/busybox.tar --json target/bench.json
	@[ -x $(FIXTURES)/youki/bin/youki ] || cargo install --quiet --root $(FIXTURES)/youki --target-dir target/youki --features v1,v2 youki || echo "youki cannot be built here: it is left out"
	$(SUDO) unshare --net --mount --propagation private integration/bench/oci.py --rcon $(CURDIR)/$(RCON)-runtime --image $(CURDIR)/$(FIXTURES)/busybox.tar --youki $(CURDIR)/$(FIXTURES)/youki/bin/youki --json target/bench-oci.json
	@$(MAKE) --no-print-directory bench-network
	@$(MAKE) --no-print-directory bench-build
	@$(MAKE) --no-print-directory bench-pull

bench-pull: build $(FIXTURES)/large ## cold pull and unpack against docker, podman, containerd and skopeo with umoci
	@packaging/install-packages.sh test bench bench-pull
	$(SUDO) unshare --net --mount --propagation private bash -c 'ip link set lo up; exec "$$@"' bench integration/bench/pull.py --rcon $(CURDIR)/$(RCON) --layouts $(CURDIR)/$(FIXTURES)/large --json target/bench-pull.json

bench-network: build $(FIXTURES)/busybox.tar ## throughput, latency and costs of networks against docker, podman and a plain veth pair
	@packaging/install-packages.sh bench bench-network
	$(SUDO) unshare --net --mount --propagation private bash -c 'ip link set lo up; exec "$$@"' bench integration/bench/network.py --rcon $(CURDIR)/$(RCON) --image $(CURDIR)/$(FIXTURES)/busybox.tar --json target/bench-network.json

bench-build: build $(FIXTURES)/debian.tar ## builds against docker's classic builder and buildah
	@packaging/install-packages.sh bench test
	$(SUDO) unshare --net --mount --propagation private bash -c 'ip link set lo up; exec "$$@"' bench integration/bench/build.py --rcon $(CURDIR)/$(RCON) --image $(CURDIR)/$(FIXTURES)/debian.tar --json target/bench-build.json

fuzz: ## the readers of hostile bytes (tar, tar records, manifests, name queries, plugins, Dockerfiles), FUZZ_SECONDS (60) each
	@packaging/install-packages.sh fuzz
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" unshare --mount --propagation private fuzz/run.sh

fixtures: $(FIXTURES)/busybox.tar $(FIXTURES)/debian.tar $(FIXTURES)/mysql.tar $(FIXTURES)/blog.tar $(FIXTURES)/kernel/vmlinuz $(FIXTURES)/guest.ext4 $(FIXTURES)/moto/bin/moto_server $(FIXTURES)/docker-py/complete ## every fixture image

$(FIXTURES)/probe: rootfs-fixtures/probe.rs
	@mkdir -p $(FIXTURES)
	rustc --edition 2024 -O -C target-feature=+crt-static -C panic=abort -C strip=symbols -o $@ $<

$(FIXTURES)/busybox.tar: $(FIXTURES)/probe rootfs-fixtures/busybox.sh rootfs-fixtures/image.sh
	@packaging/install-packages.sh build
	$(SUDO) rootfs-fixtures/busybox.sh $(CURDIR)/$@ $<

$(FIXTURES)/debian.tar: rootfs-fixtures/debian.sh rootfs-fixtures/image.sh
	@mkdir -p $(FIXTURES)
	$(SUDO) rootfs-fixtures/debian.sh $(CURDIR)/$@

$(FIXTURES)/mysql.tar: rootfs-fixtures/mysql.sh rootfs-fixtures/image.sh rootfs-fixtures/mysql/entrypoint.sh
	@mkdir -p $(FIXTURES)
	$(SUDO) rootfs-fixtures/mysql.sh $(CURDIR)/$@

$(FIXTURES)/blog.tar: rootfs-fixtures/blog.sh rootfs-fixtures/image.sh rootfs-fixtures/blog/blog.py rootfs-fixtures/blog/nginx.conf
	@mkdir -p $(FIXTURES)
	$(SUDO) rootfs-fixtures/blog.sh $(CURDIR)/$@

$(FIXTURES)/large: rootfs-fixtures/large.sh rootfs-fixtures/large.py
	@packaging/install-packages.sh test
	$(SUDO) rootfs-fixtures/large.sh $(CURDIR)/$@
	@touch $@

$(FIXTURES)/kernel/vmlinuz: integration/cgroup2/kernel.sh
	$(SUDO) integration/cgroup2/kernel.sh $(CURDIR)/$(FIXTURES)/kernel
	@touch $@

$(FIXTURES)/guest.ext4: $(FIXTURES)/kernel/vmlinuz rootfs-fixtures/guest.sh
	@packaging/install-packages.sh test
	$(SUDO) rootfs-fixtures/guest.sh $(CURDIR)/$@ $(CURDIR)/$(FIXTURES)/kernel

$(FIXTURES)/moto/bin/moto_server: rootfs-fixtures/moto.sh
	@packaging/install-packages.sh test
	rootfs-fixtures/moto.sh $(CURDIR)/$(FIXTURES)/moto

$(FIXTURES)/docker-py/complete: rootfs-fixtures/docker-py.sh
	@packaging/install-packages.sh test
	rootfs-fixtures/docker-py.sh $(CURDIR)/$(FIXTURES)/docker-py

# What `rcon version` shows of a release.
deb install: export RCON_COMMIT := $(shell git rev-parse --short HEAD 2> /dev/null || echo unknown)
deb install: export RCON_BUILT := $(shell git log -1 --format=%cI 2> /dev/null || echo unknown)

deb: build ## a Debian package in target/
	@packaging/deb.sh $(RCON) target

scale: build $(FIXTURES)/busybox.tar ## 1,000 containers one after the other and 200 at once
	$(SUDO) env RCON=$(CURDIR)/$(RCON) FIXTURES=$(CURDIR)/$(FIXTURES) SCALE_SEQUENTIAL=1000 SCALE_PARALLEL=200 unshare --net --mount --propagation private bash -c 'ip link set lo up; exec integration/scale.sh'

PREFIX ?= /usr/local
UNITS := rcon-boot.service rcon-supervise.service rcon-supervise.timer
install: build ## rcon, rcon-runtime and the systemd units under PREFIX; then: systemctl enable --now rcon-boot.service rcon-supervise.timer
	install -D -m 755 $(RCON) $(DESTDIR)$(PREFIX)/bin/rcon
	ln -sfn rcon $(DESTDIR)$(PREFIX)/bin/rcon-runtime
	mkdir -p $(DESTDIR)$(PREFIX)/lib/systemd/system
	for unit in $(UNITS); do sed 's|/usr/bin/|$(PREFIX)/bin/|' packaging/systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done

clean: ## everything that was built
	rm -rf target
