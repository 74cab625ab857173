//! The promises of every backend, as tests that run on each of them.
//!
//! A promise is a function that takes a [`Stage`]: a fresh store and the clock that it uses. The macro
//! [`promises!`] turns each into a test. Behaviour is tested here, never in one backend's own tests.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used,
    reason = "these are tests, though another crate runs them"
)]

mod accept;
mod bounds;
mod cancel;
mod delete;
mod directory;
mod estimate;
mod fair;
mod filter;
mod former;
mod health;
mod lease;
mod list;
mod orphan;
mod outbox;
mod retry;
mod session;
mod shards;
mod stage;
mod stream;
mod unsettled;
mod waiting;
mod wake;
mod workers;

pub use self::{
    accept::*, bounds::*, cancel::*, delete::*, directory::*, estimate::*, fair::*, filter::*,
    former::*, health::*, lease::*, list::*, orphan::*, outbox::*, retry::*, session::*, shards::*,
    stage::*, stream::*, unsettled::*, waiting::*, wake::*, workers::*,
};

/// Turns every promise into a test. `$stage` is an async function that creates a [`Stage`] and the value that keeps
/// it alive: `async fn() -> (Stage, impl Sized)`.
///
/// With `together`, it creates one async function `all`, which calls `$stage` with the name of each promise: for a
/// store that is slow to start.
#[macro_export]
macro_rules! promises {
    ($stage:path) => {
        $crate::promises! { @all each $stage }
    };
    ($stage:path, together) => {
        $crate::promises! { @all together $stage }
    };
    (@all $how:ident $stage:path) => {
        $crate::promises! { @$how $stage:
            a_job_is_accepted_and_seen
            the_same_key_and_request_is_the_same_job
            the_same_key_and_another_request_is_refused
            a_key_lives_as_long_as_its_job
            a_key_outlives_a_late_retry
            keys_of_two_tenants_are_independent
            a_full_lane_accepts_all_or_nothing
            a_full_tenant_leaves_room_for_others
            a_refusal_counts_waiting_and_new_jobs
            the_first_tenant_without_room_is_named
            jobs_of_a_flow_start_in_accepted_order
            a_delayed_job_waits_for_its_time
            a_large_body_arrives_whole
            a_tenant_never_runs_more_than_its_cap
            a_tenant_that_is_taken_out_keeps_its_bounds
            a_debt_is_paid_at_the_rate_that_holds
            a_lane_never_runs_more_than_its_cap
            a_tenant_begins_only_so_many_requests_a_minute
            a_tenant_uses_only_so_many_tokens_a_minute
            a_lane_begins_only_so_much_a_minute
            a_pause_keeps_everything_where_it_is
            a_job_that_comes_too_late_expires
            a_job_expires_without_a_worker
            a_running_job_expires_by_its_worker
            a_waiting_job_knows_its_place_and_its_time
            a_waiting_job_is_cancelled_at_once
            a_running_job_is_cancelled_by_its_worker
            a_cancelled_job_does_not_run_again
            a_lost_worker_receives_no_cancel
            a_foreign_job_cannot_be_cancelled_or_retried
            a_light_tenant_does_not_wait_behind_a_heavy_one
            turns_go_by_weight
            turns_are_paid_in_tokens
            classes_are_served_by_weight
            batch_jobs_hardly_delay_interactive_jobs
            a_closing_flow_gives_no_extra_turns
            an_idle_flow_saves_no_turns
            a_high_estimate_delays_no_other_tenant
            free_jobs_take_turns
            an_absurd_estimate_closes_a_lane_briefly
            a_job_handed_back_costs_nothing
            a_new_tenant_does_not_wait_for_estimates
            a_light_tenant_starts_despite_high_estimates
            a_new_tenant_starts_at_the_lowest_tag
            a_new_weight_applies_to_running_attempts
            the_estimate_is_accurate
            the_estimate_includes_a_cap
            the_estimate_includes_a_tenants_rates
            the_estimate_includes_a_lanes_rates
            the_estimate_includes_the_mean_attempt
            the_estimate_of_a_paused_job_is_none
            a_full_tenant_receives_its_retry_time
            unstarted_jobs_do_not_count_as_drain
            a_claim_takes_each_job_once
            failures_in_a_row_cool_the_lane_down
            a_success_resets_the_failure_count
            a_certain_failure_cools_the_lane_down
            an_unavailable_lane_is_probed_at_the_named_time
            a_recovered_lane_waits_for_more_certain_failures
            one_job_probes_and_its_success_opens_the_lane
            bad_jobs_do_not_keep_the_lane_closed
            another_tenant_probes
            unclear_failures_of_one_job_count_once
            always_refused_jobs_are_charged
            a_job_that_has_not_failed_probes_first
            jobs_that_always_fail_are_charged
            a_refused_probe_opens_the_lane
            failed_probes_double_the_cool_down
            a_lost_probe_makes_room_for_the_next
            only_the_probe_opens_the_lane
            a_resumed_lane_is_open
            an_unclear_failure_is_charged_to_its_job
            unclear_failures_of_many_jobs_charge_the_lane
            a_success_charges_unclear_failures_to_jobs
            a_job_refused_alone_is_charged
            a_common_refusal_charges_no_job
            a_job_expires_by_its_age
            expiry_by_age_is_not_a_deadline
            a_job_expired_in_an_outage_reports_it
            a_huge_limit_costs_eight_mean_answers
            a_heartbeat_extends_a_lease
            an_expired_lease_is_a_stall
            a_job_that_loses_too_many_workers_fails
            an_expired_lease_cannot_settle_or_emit
            an_expired_lease_in_a_batch_ends_nothing
            an_attempt_ends_once_in_a_call
            a_job_handed_back_spends_no_attempt
            a_job_handed_back_with_a_delay_waits
            an_answer_is_kept
            jobs_are_listed_newest_first_in_pages
            a_list_is_in_the_order_of_acceptance
            two_lanes_are_listed_as_one
            a_list_is_filtered
            a_foreign_cursor_is_an_error
            a_list_continues_after_another_shards_job
            a_list_finds_one_among_thousands
            a_page_stops_with_a_lane
            a_list_is_filtered_by_model_and_error
            a_body_can_be_read_until_it_is_answered
            ready_jobs_are_counted_by_class
            stats_count_waiting_and_running_jobs
            a_tenant_sees_its_limits_and_wait
            a_deleted_job_is_gone
            only_an_ended_job_is_deleted
            attached_bytes_can_be_read
            an_orphan_is_taken_once
            an_orphan_is_taken_within_its_time
            an_orphan_is_removed_unless_it_was_taken
            every_end_with_a_webhook_is_stored
            an_acknowledged_end_leaves_the_outbox
            each_end_of_a_job_is_published
            an_unacknowledged_end_expires
            a_postponed_end_waits_for_its_time
            a_key_can_be_made_to_expire
            a_tenant_runs_few_deliveries
            deliveries_are_not_among_the_jobs
            a_directory_is_replaced_by_one_writer
            a_retry_waits_and_returns_to_its_place
            errors_of_earlier_attempts_are_kept
            a_failed_job_can_be_retried
            a_succeeded_job_cannot_be_retried
            a_refused_rate_spends_no_attempt
            jobs_of_a_session_run_one_at_a_time_in_order
            a_session_is_of_one_lane
            a_session_goes_on_when_its_first_job_is_cancelled
            a_retry_keeps_its_session_waiting
            a_tenant_has_one_shard
            a_tenant_is_told_the_wait_in_its_own_shard
            another_number_of_shards_loses_nothing
            a_former_shard_is_forgotten_after_a_retention
            a_smaller_layout_is_kept
            a_pause_ends_in_a_forgotten_shard
            a_tenant_that_moves_keeps_what_it_has
            an_orphan_is_taken_from_a_former_shard
            a_conversation_moves_with_its_tenant
            a_profile_moves_with_its_tenant
            a_message_that_stays_behind_remembers
            a_pause_holds_in_new_shards
            former_shards_at_most_double_the_limits
            limits_reach_a_shard_that_is_discovered_later
            a_cap_holds_for_former_delayed_jobs
            a_cap_holds_for_former_paused_jobs
            a_cap_holds_for_jobs_put_back
            a_raised_rate_reaches_former_shards
            jobs_of_two_lanes_go_together
            what_is_refused_is_taken_back
            a_lane_is_stopped_in_all_its_shards
            a_made_up_shard_stays_unknown
            a_conversation_remembers_its_turns_and_no_others
            a_conversation_may_keep_nothing
            a_conversation_can_be_forgotten
            a_conversation_is_imported_once
            a_profile_changes_as_it_is_known
            one_of_equal_turns_is_taken
            a_refused_turn_is_given_back
            events_are_numbered_and_kept
            a_repeated_emission_is_kept_once
            a_late_follower_misses_no_event
            a_bucket_refuses_more_than_its_limit
            new_work_wakes_a_worker
            a_step_that_leaves_work_wakes_another_worker
            a_waiting_lane_wakes_no_worker
            a_wake_up_before_the_wait_is_not_lost
            a_wake_up_returns_a_job
            a_stopped_wait_leaves_nothing_running
            a_pause_precedes_an_outage
            a_retry_waits_for_a_lane_that_is_down
            a_rate_of_the_upstream_names_its_end
            a_delayed_job_reports_its_schedule
            the_stats_of_a_lane_name_the_reason
            an_estimate_expires_with_the_drain_rate
            an_estimate_lasts_as_long_as_calls
            a_lost_worker_is_not_live
            a_draining_worker_serves_no_lane
            a_stopped_worker_is_forgotten
            jobs_without_a_worker_report_it
        }
    };
    (@each $stage:path: $($name:ident)+) => {
        $(#[tokio::test]
        async fn $name() {
            let (stage, _alive) = $stage().await;
            $crate::$name(stage).await;
        })+
    };
    (@together $stage:path: $($name:ident)+) => {
        async fn all(store: &std::sync::Arc<dyn causeway_queue::Backend>, clock: &std::sync::Arc<causeway_queue::clock::ManualClock>) {
            $(eprintln!("{}", stringify!($name));
            $crate::$name($stage(store, clock, stringify!($name))).await;)+
        }
    };
}
