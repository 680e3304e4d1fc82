# The only door: every command that the project needs is a target here.
SHELL := /bin/bash
TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
RCON := target/$(TRIPLE)/release/rcon
FIXTURES := target/fixtures
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help run build test lint unit integration test-cgroup2 conformance conformance-cgroup2 bench bench-pull fuzz fixtures install clean

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile

build: ## the release binary
	@packaging/install-packages.sh build
	cargo build --release
	@ln -sfn rcon target/$(TRIPLE)/release/rcon-runtime

run: build $(FIXTURES)/busybox.tar ## build everything and run a container with limits
	@$(SUDO) packaging/demo.sh $(RCON) $(FIXTURES)/busybox.tar

test: ## all tests: unit, command line, integration, cgroup v2 guest
	@packaging/install-packages.sh build test peers
	@$(MAKE) --no-print-directory lint unit integration

lint: ## format and lints; the other house rules are tests/tidy.rs
	cargo fmt --check
	cargo clippy --quiet --all-targets --features failpoints -- -D warnings

unit: $(FIXTURES)/busybox.tar ## unit and command-line tests
	$(SUDO) env "PATH=$$PATH" RCON_TEST_FIXTURES=$(CURDIR)/$(FIXTURES) cargo test --features failpoints

integration: build fixtures ## real peers, real registry, kill -9, cgroup v2 guest
	$(SUDO) integration/run.sh $(CURDIR)/$(RCON) $(CURDIR)/$(FIXTURES)

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
	@$(MAKE) --no-print-directory bench-pull

bench-pull: build $(FIXTURES)/large ## cold pull and unpack against docker, podman, containerd and skopeo with umoci
	@packaging/install-packages.sh test bench bench-pull
	$(SUDO) unshare --net --mount --propagation private bash -c 'ip link set lo up; exec "$$@"' bench integration/bench/pull.py --rcon $(CURDIR)/$(RCON) --layouts $(CURDIR)/$(FIXTURES)/large --json target/bench-pull.json

fuzz: ## the readers of hostile bytes (tar, tar records, manifests), FUZZ_SECONDS (60) each
	@packaging/install-packages.sh fuzz
	$(SUDO) env "PATH=$$PATH" "HOME=$$HOME" unshare --mount --propagation private fuzz/run.sh

fixtures: $(FIXTURES)/busybox.tar $(FIXTURES)/debian.tar $(FIXTURES)/mysql.tar $(FIXTURES)/kernel/vmlinuz $(FIXTURES)/guest.ext4 $(FIXTURES)/moto/bin/moto_server ## every fixture image

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

PREFIX ?= /usr/local
install: build ## rcon and rcon-runtime under PREFIX
	install -D -m 755 $(RCON) $(DESTDIR)$(PREFIX)/bin/rcon
	ln -sfn rcon $(DESTDIR)$(PREFIX)/bin/rcon-runtime

clean: ## everything that was built
	rm -rf target
