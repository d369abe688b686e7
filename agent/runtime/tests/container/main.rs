//! Containers on this machine's kernel, whatever its layout of cgroups. Needs root and busybox-static.
//!
//! The same tests run on cgroup v1 and v2: `make boards` boots a kernel with each.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod cgroup;
mod cpu;
mod cycles;
mod devices;
mod disk;
mod exec;
mod init;
mod io;
mod launch;
mod memory;
mod pids;
mod process;
mod project;
mod rootfs;
mod sockets;
mod stats;
mod trace;
mod users;

fn main() -> std::process::ExitCode {
    if std::env::var_os(launch::OLD_KERNEL).is_some() {
        launch::on_an_old_kernel();
        return std::process::ExitCode::SUCCESS;
    }
    if std::env::var_os(project::INSIDE).is_some() {
        project::inside();
        return std::process::ExitCode::SUCCESS;
    }
    if let Ok(name) = std::env::var(sockets::INSIDE) {
        sockets::inside(&name);
        return std::process::ExitCode::SUCCESS;
    }
    if let Ok(victim) = std::env::var(trace::INSIDE) {
        trace::inside(&victim);
        return std::process::ExitCode::SUCCESS;
    }
    support::run(tests![
        process::a_program_runs_and_its_exit_is_told,
        process::the_process_is_confined,
        process::a_user_has_no_capabilities_but_ambient_ones,
        process::seccomp_answers_for_forbidden_calls,
        process::a_terminal_is_the_controlling_one,
        init::it_ends_as_the_program_ends,
        init::signals_reach_the_program,
        init::zombies_are_reaped,
        init::nothing_of_the_caller_is_in_its_memory,
        init::its_file_cannot_be_changed,
        init::both_are_confined_as_the_program_alone_is,
        init::its_users_may_be_its_own,
        init::the_terminal_is_the_programs,
        init::it_counts_as_a_process,
        rootfs::processes_and_mounts_are_its_own,
        rootfs::paths_are_masked_and_readonly,
        rootfs::a_readonly_root_is_readonly_and_volumes_are_not,
        rootfs::volumes_follow_links_only_inside,
        rootfs::proc_cannot_be_mounted_on,
        rootfs::hostile_images_reach_nothing_outside,
        launch::failures_tell_their_step,
        launch::a_container_can_be_given_up_before_its_start,
        launch::networks_are_new_host_or_shared,
        sockets::a_container_in_the_hosts_network_keeps_to_its_own_sockets,
        trace::processes_of_the_host_are_not_looked_into,
        exec::exec_joins_everything,
        exec::a_failed_exec_leaves_the_container_alone,
        exec::a_kept_program_ends_with_its_keeper,
        exec::a_start_that_is_held_up_is_given_up,
        exec::the_namespaces_of_another_with_the_same_number_are_not_joined,
        memory::a_hog_is_killed_and_nothing_else,
        memory::swap_is_bounded,
        memory::a_live_limit_bites,
        memory::a_live_limit_below_what_is_used_is_refused,
        memory::a_live_sum_below_what_is_used_is_refused,
        memory::a_live_limit_keeps_the_sum_with_swap,
        memory::swappiness_is_set_or_refused,
        memory::without_an_oom_kill_a_hog_waits_until_there_is_more,
        memory::an_oom_kill_takes_the_group_where_it_is_asked_for,
        memory::memory_that_is_promised_is_not_taken_back,
        memory::memory_that_is_reserved_is_taken_back_last,
        memory::a_reservation_is_set_and_goes_with_its_cgroup,
        cpu::the_quota_holds_and_can_change,
        cpu::weights_share_a_cpu_and_can_change,
        cpu::a_burst_is_what_was_left_over_and_no_more,
        cpu::the_set_of_cpus_holds_and_can_change,
        pids::a_fork_bomb_meets_the_limit,
        pids::a_live_limit_moves_the_border,
        devices::a_device_needs_node_and_rule,
        devices::rules_that_go_and_come_disturb_no_other,
        devices::version_two_lets_rules_go_and_come,
        devices::live_rules_replace_the_old_ones,
        io::direct_io_keeps_to_the_rates,
        io::buffered_writes_keep_to_the_rate,
        io::a_weight_is_set_for_one_device_where_the_kernel_has_them,
        io::weights_are_set_where_the_kernel_has_them,
        io::a_busy_disk_is_shared_by_weight,
        // After those of IO: a loop device that a file system was on keeps for a while whom its pages are charged to.
        disk::an_image_ends_a_disk_filler,
        disk::a_full_disk_is_writable_again_though_the_last_mount_lingers,
        disk::an_image_ends_an_inode_filler,
        disk::memory_ends_a_disk_filler,
        disk::memory_ends_an_inode_filler,
        disk::an_image_keeps_what_is_in_it,
        disk::an_image_does_not_fit_where_there_is_no_room,
        disk::an_image_grows_in_use,
        disk::an_image_is_whole_wherever_its_making_is_cut,
        disk::a_quota_ends_a_disk_filler,
        disk::a_quota_ends_an_inode_filler,
        disk::a_quota_moves_in_use,
        disk::a_quota_is_set_by_the_devices_node_too,
        disk::a_full_layer_starts_again_under_a_quota,
        disk::a_limit_below_what_a_file_takes_is_refused_or_held,
        disk::a_project_is_not_used_twice,
        disk::the_means_are_tried_and_nothing_stays,
        disk::quotas_are_found_by_trying,
        project::a_container_does_not_leave_its_quota,
        project::what_a_killed_start_has_borrowed_is_taken_back,
        project::users_of_its_own_have_no_say_over_projects,
        users::root_inside_is_nobody_outside,
        users::a_layer_is_taken_over_both_ways,
        users::containers_with_two_ranges_are_strangers,
        users::a_network_belongs_to_the_container_that_it_was_made_for,
        users::exec_enters_its_users,
        users::what_has_no_id_in_the_range_is_refused,
        users::ranges_are_found_by_trying,
        // It makes an image too.
        launch::old_kernels_are_served_too,
        stats::figures_are_of_the_cgroup_alone,
        stats::waiting_for_cpu_is_told_of_who_waits,
        cgroup::freezing_stops_and_thawing_goes_on,
        cgroup::a_limit_that_cannot_be_held_is_an_error,
        cgroup::version_two_starts_inside_filters_devices_and_kills,
        cgroup::a_tree_without_controllers_holds_no_limit,
        cycles::nothing_piles_up_in_a_process_that_launches,
        launch::nothing_is_left,
    ])
}
