"""Where a peer (Debian 12: runc 1.1.5, crun 1.8.1) does not pass a case: why rcon is right to pass it.

Checked by run.py: a peer's difference that is not named here fails the table, and one that is named here but has gone
is reported as stale. A reason is about the peer, the paragraph is in the case.
"""

RUNC = {
    "runc 1.1 is older than the field (spec 1.1 and later) and ignores it": [
        "scheduler_batch", "scheduler_idle", "scheduler_fifo", "scheduler_reset_on_fork", "scheduler_unknown",
        "scheduler_unknown_flag", "io_priority_be", "io_priority_rt", "io_priority_idle", "io_priority_unknown",
        "io_priority_range", "exec_affinity_final", "exec_affinity_invalid", "domainname_set", "mount_idmap",
        "mount_ridmap", "mount_idmap_of_the_container", "mount_idmap_without_any", "mount_idmap_half",
        "time_offsets_without_namespace", "personality_linux32", "personality_unknown", "personality_flags",
        "personality_exec", "memory_policy_bind", "memory_policy_flags", "memory_policy_unknown",
        "memory_policy_bad_nodes", "net_devices_moved", "net_devices_renamed", "net_devices_missing",
        "net_devices_without_namespace", "net_devices_bad_name", "resource_cpu_burst", "resource_cpu_idle",
        "resource_burst_above_quota"],
    "runc 1.1 does not know time namespaces": ["namespace_time_new", "namespace_time_path", "time_offsets", "features_namespaces"],
    "runc 1.1 wants the mappings of a user namespace that it is to join": ["namespace_user_path"],
    "runc 1.1 refuses every seccomp flag": ["seccomp_flag_tsync", "seccomp_flag_log", "seccomp_flag_spec_allow"],
    "runc does not look at ociVersion": ["version_missing", "version_not_semver", "version_of_another_major"],
    "runc does not validate this; the paragraph says MUST": [
        "rlimits_twice", "annotations_empty_key", "user_mappings_without_namespace", "devices_without_numbers",
        "devices_without_path", "masked_relative", "readonly_relative", "seccomp_no_names", "seccomp_errno_of_allow",
        "seccomp_metadata_alone", "device_list_bad_access", "kill_unknown_signal"],
    "runc fails when a capability is withheld from it; the paragraph says SHOULD NOT fail": ["capabilities_not_held"],
    "runc needs a /proc mount of the container; mounts are optional": ["mounts_absent"],
    "runc 1.1 hands `defaults` to the file system as data": ["mount_options_known"],
    "runc 1.1 does not take back a recursive option": ["mount_recursive_opposites"],
    "runc wants the source of a bind remount to exist, which mount(8) does not need": ["mount_bind_remount"],
    "runc 1.1 clears flags that the host has locked, and fails": ["mount_locked_flags"],
    "runc runs poststart hooks at the end of create, before the process is executed": [
        "hooks_order", "hooks_poststart_state", "hooks_poststart_before_return", "hooks_poststart_after_exec"],
    "runc calls no further poststop hook after one that failed": ["hooks_poststop_fails"],
    "runc keeps any file that is at the device's path": ["devices_mismatch"],
    "runc makes a shared root private again before the process runs": ["propagation_shared"],
    "runc binds the root once more, which an unbindable one forbids": ["propagation_unbindable"],
    "runc leaves the connection open until it exits": ["seccomp_notify_closed"],
    "runc 1.1 only warns of a cgroup that is not empty": ["cgroups_not_empty"],
    "runc does not find the hugetlb controller on the v2 tree of a hybrid host": ["resource_hugepages@hybrid"],
    "runc 1.1 shows the host's whole v2 tree without a cgroup namespace; only the container's part is its business": ["cgroup_mount_without_namespace@v2"],
    "runc 1.1 hands over the ownership with the systemd driver only": ["cgroups_ownership@v2"],
    "runc ignores on v2 what has no conversion; the paragraph says MUST generate an error": ["resource_network_absent@v2"],
    "runc 1.1 does not know checkBeforeUpdate": ["update_check_before@v2"],
    "runc 1.1 leaves processes of a shared PID namespace, and with them the cgroup": ["delete_with_orphans@v2"],
    "runc 1.1 does not know the real-time signals": ["kill_RTMIN_3"],
    "runc 1.1 names options in its features that its own mounts then refuse": ["features_mount_options"],
}

CRUN = {
    "crun 1.8 is older than the field (spec 1.1 and later) and ignores it": [
        "scheduler_batch", "scheduler_idle", "scheduler_fifo", "scheduler_reset_on_fork", "scheduler_unknown",
        "scheduler_unknown_flag", "io_priority_be", "io_priority_rt", "io_priority_idle", "io_priority_unknown",
        "io_priority_range", "exec_affinity_final", "exec_affinity_invalid", "memory_policy_bind", "memory_policy_flags",
        "memory_policy_unknown", "memory_policy_bad_nodes", "net_devices_moved", "net_devices_renamed",
        "net_devices_missing", "net_devices_without_namespace", "net_devices_bad_name"],
    "crun 1.8 accepts no version above 1.0": ["version_1_2_1", "version_1_3_0"],
    "crun does not validate this; the paragraph says MUST": [
        "process_cwd_relative", "process_args_absent", "config_wrong_type", "rlimits_twice", "annotations_empty_key",
        "hooks_timeout_zero", "namespace_twice", "user_mappings_without_namespace", "time_offsets_without_namespace",
        "devices_unknown_type", "devices_without_numbers", "propagation_unknown", "masked_relative", "readonly_relative",
        "personality_flags", "seccomp_no_names", "seccomp_unknown_flag", "seccomp_metadata_alone", "create_id_space",
        "create_id_newline"],
    "crun fails to say it; the paragraph says that it MUST be logged": ["capabilities_unknown"],
    "crun fails when a capability is withheld from it; the paragraph says SHOULD NOT fail": ["capabilities_not_held"],
    "crun ignores a console socket that nothing will be sent to": ["process_socket_without_terminal"],
    "crun's error names the destination without its slash": ["mounts_unknown_type"],
    "crun fails where the link's target does not exist inside the root": ["mounts_destination_link"],
    "crun lets a directory pass for the procfs that the security of later steps needs": ["mounts_over_proc"],
    "crun wants a mounts array; it is optional": ["mounts_absent"],
    "crun 1.8 does not know nosymfollow": ["mount_nosymfollow", "mount_bind_nosymfollow", "mount_symfollow_after_nosymfollow", "mount_rnosymfollow"],
    "crun does not take an option back by its opposite": [
        "mount_suid_after_nosuid", "mount_dev_after_nodev", "mount_exec_after_noexec", "mount_atime_after_noatime",
        "mount_diratime_after_nodiratime"],
    "crun 1.8 does not know all options of the table": ["mount_options_known", "mount_iversion"],
    "crun 1.8 combines the attributes of time in a way that the kernel refuses": ["mount_rnoatime", "mount_rnodiratime", "mount_recursive_opposites"],
    "crun makes every mount private again when it sets the root's propagation": ["mount_shared", "mount_rshared", "mount_unbindable", "mount_runbindable"],
    "crun wants the source of a bind remount to exist, which mount(8) does not need": ["mount_bind_remount"],
    "crun 1.8 maps the top of the tree only, without the mounts beneath": ["mount_ridmap"],
    "crun does not call the poststop hooks after a hook of create has failed": [
        "hooks_prestart_fails", "hooks_createRuntime_fails", "hooks_createContainer_fails"],
    "crun gives the hook a state without the pid, or with a bundle of /": ["hooks_createContainer_state", "hooks_startContainer_state"],
    "crun ignores a poststart hook that fails (spec 1.3: an error, and the container is stopped)": ["hooks_poststart_fails"],
    "crun leaves the hook's stderr to its own": ["hooks_error_text"],
    "crun 1.8 does not know time namespaces": ["namespace_time_new", "namespace_time_path", "time_offsets"],
    "crun keeps any file that is at the device's path": ["devices_mismatch"],
    "crun drops the flags of the mount that a read-only path is on": ["readonly_keeps_flags"],
    "crun ignores what SELinux cannot enforce": ["mount_label_refused"],
    "crun 1.8 ignores intelRdt": ["intel_rdt_without_resctrl"],
    "crun connects to a listener that no action needs": ["seccomp_listener_unused"],
    "crun leaves the connection open until it exits": ["seccomp_notify_closed"],
    "crun takes signals by their upper-case names only, and sends nothing for others": ["kill_usr2", "kill_sigint", "kill_unknown_signal"],
    "crun has no run --keep": ["run_keep"],
    "crun 1.8 sets LISTEN_FDS without LISTEN_PID": ["listen_fds"],
    "crun's exec begins at root, / and an empty environment unless flags say otherwise": ["exec_inherits", "exec_env"],
    "crun 1.8 has no exec --additional-gids": ["exec_additional_gids"],
    "crun's list has columns of its own": ["list_table"],
    "crun 1.8 has no features": ["features_versions", "features_hooks", "features_mount_options", "features_namespaces", "features_seccomp", "features_linux"],
    "crun 1.8 writes a rootless config without mappings": ["spec_rootless"],
    "crun shows the host's whole v2 tree without a cgroup namespace; only the container's part is its business": ["cgroup_mount_without_namespace@v2"],
    "crun hangs in a frozen cgroup": ["cgroups_frozen"],
    "crun does not look whether the cgroup is empty": ["cgroups_not_empty"],
    "crun hands over the ownership for a read-only mount too": ["cgroups_ownership_readonly"],
    "crun 1.8 does not know burst": ["resource_cpu_burst", "resource_burst_above_quota"],
    "crun leaves the cgroup behind when create fails": [
        "resource_hugepages_unknown_size", "resource_cpus_absent", "resource_network_absent", "resource_unified_unknown",
        "resource_unified_no_controller", "resource_unified_path", "resource_memory_invalid"],
    "crun refuses the kernel limits on v2, which older callers still pass on": ["resource_kernel_memory"],
    "crun ignores a limit of a device that is not there": ["resource_rdma_absent"],
    "crun ignores letters of no meaning": ["device_list_bad_access"],
    "crun resumes what is not paused without an error": ["pause_twice"],
    "crun has no events": ["events_stats"],
    "crun's ps prints process ids only": ["ps_table"],
    "crun has no help verb": ["help_text"],
}


# What a peer gets wrong at times only: passing is no reason to take the words away.
SOMETIMES = {
    "runc": {
        "Go raises the soft limit of open files of runc's own process; whether the exec gets that or its own is a race": ["exec_process_limits"],
    },
    "crun": {
        "crun's start does not wait for the startContainer hooks": ["hooks_order", "hooks_start_container_not_in_create"],
        "crun's container may speak before crun's kill knows it as running": ["run_killed"],
        "crun fails on EPIPE when a hook ends without having read its state": ["hooks_stdin_unread"],
    },
}


def explanations(v2):
    """Per case, per peer, why rcon is right. A name with @v2 or @hybrid counts on that cgroup layout only."""
    by_case = {}
    for peer, reasons in (("runc", RUNC), ("crun", CRUN)):
        for why, names in reasons.items():
            for name, _, layout in (entry.partition("@") for entry in names):
                by_case.setdefault(name, {})
                if layout and (layout == "v2") != v2:
                    continue
                assert peer not in by_case.setdefault(name, {}), f"{name} is explained twice for {peer}"
                by_case[name][peer] = why
    for name, peers in sometimes().items():
        for peer, why in peers.items():
            assert peer not in by_case.setdefault(name, {}), f"{name} is explained twice for {peer}"
            by_case[name][peer] = why
    return by_case


def sometimes():
    """Per case, per peer: explanations that need not hold every time."""
    by_case = {}
    for peer, reasons in SOMETIMES.items():
        for why, names in reasons.items():
            for name in names:
                by_case.setdefault(name, {})[peer] = why
    return by_case
