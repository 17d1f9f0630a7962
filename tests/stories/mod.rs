//! Stories: what Keepstep promises, told through its public API alone (HTTP and WebSocket), the same for every way to
//! run it. Each story is an async function over a [`Deployment`]; the macro [`stories`] makes tests of them.
//!
//! `world` starts a deployment, `user` and `device` are the people in it, `memory` checks what every frame must hold to,
//! and `wire` is for those who keep to nothing.

// Each test binary has its own copy of this module and uses a part of it.
#![allow(dead_code)]

#[path = "../support/client.rs"]
pub mod client;
pub mod device;
pub mod memory;
pub mod user;
pub mod wire;
pub mod world;

pub mod admin;
pub mod audit;
pub mod away;
pub mod bad_frames;
pub mod bad_http;
pub mod bad_phone;
pub mod bad_wire;
pub mod bootstrap;
pub mod console;
pub mod conversation;
pub mod devices;
pub mod drain;
pub mod expiry;
pub mod groups;
pub mod limits;
pub mod links;
pub mod logs;
pub mod membership;
pub mod metrics;
pub mod offsets;
pub mod pages;
pub mod presence;
pub mod start;
pub mod termination;
pub mod tokens;
pub mod typing;

pub use world::{Deployment, World};

/// One test per story on a deployment. The list is here, so that no deployment forgets one.
#[macro_export]
macro_rules! stories {
    ($deployment:expr) => {
        $crate::stories!($deployment;
            admin: [
                an_admin_sees_what_waits,
                an_admin_ends_a_device_after_a_dry_run,
                an_admin_closes_all_sockets_of_a_user,
            ]
            audit: [
                what_admins_do_is_written_down,
                the_audit_log_keeps_the_newest,
            ]
            away: [
                a_device_that_was_away_for_300_messages_gets_them_once_and_in_order,
                what_the_log_no_longer_holds_comes_from_the_queue,
                what_is_too_old_leaves_a_chat_in_which_nobody_speaks,
                a_device_with_many_chats_gets_all_of_them,
                what_was_not_acknowledged_comes_again,
                the_older_connection_of_a_device_is_closed_as_replaced,
                a_device_that_reconnects_all_the_time_misses_nothing,
            ]
            bad_frames: [
                what_is_no_good_json_is_refused_and_changes_nothing,
                fields_that_cannot_be_right_are_refused,
                ids_are_uuids_and_nothing_else,
                content_has_64_kib_and_not_a_byte_more,
                ten_bad_frames_in_a_row_close_the_socket,
                frames_that_are_no_frames_close_the_socket,
                chats_of_others_are_not_there,
            ]
            bad_http: [
                bad_bodies_are_refused_with_their_code,
                bad_paths_are_not_found,
                requests_that_are_no_http_do_not_hurt,
            ]
            bad_phone: [
                a_phone_that_lies_is_found_out,
                a_phone_that_answers_twice_is_told_so,
                a_phone_that_is_silent_times_out,
                a_phone_that_goes_midway_ends_the_request,
                a_sub_that_asks_too_much_is_refused,
            ]
            bad_wire: [
                handshakes_that_are_none_are_refused,
                bits_that_websocket_does_not_allow_close_the_socket,
                a_frame_may_come_in_any_pieces,
                a_flood_of_pings_hurts_nobody,
                a_goodbye_is_answered,
            ]
            bootstrap: [
                a_new_web_session_borrows_its_past_and_misses_nothing,
                items_are_relayed_as_they_are,
                without_its_phone_a_web_session_is_turned_away,
                a_phone_that_was_told_goodbye_is_offline,
                until_it_is_ready_a_web_session_needs_its_phone,
            ]
            console: [
                an_admin_finds_devices_by_what_waits_for_them,
                the_overview_shows_every_edge,
                only_admins_see_the_console,
                what_makes_no_sense_is_refused_on_the_console,
                a_tidy_server_has_nothing_to_sweep,
            ]
            conversation: [
                everyone_gets_150_messages_in_the_same_order,
                who_speaks_later_stands_later,
                the_same_key_is_the_same_message,
                the_same_key_at_the_same_time_is_still_one_message,
                a_bot_sends_without_a_socket,
                media_memo_and_meta_arrive_as_they_were_sent,
            ]
            devices: [
                registering_again_is_the_same_device,
                a_user_has_one_phone_and_five_web_sessions,
                registrations_at_the_same_time_keep_to_the_limits,
                another_phone_replaces_the_first,
                phones_that_replace_each_other_at_once_leave_one,
                devices_are_listed_as_they_are,
                devices_hear_of_each_other,
                when_all_have_gone_nothing_is_held,
                a_device_registered_in_the_middle_of_a_conversation_has_no_hole,
            ]
            drain: [
                a_stop_is_orderly,
            ]
            expiry: [
                a_device_that_nobody_sees_is_told_of_and_ended,
                a_device_that_is_seen_in_time_stays,
            ]
            groups: [
                a_password_opens_a_group,
                a_public_group_is_found_by_its_name,
                a_private_group_is_not_there_for_others,
                only_the_owner_invites_and_removes,
                who_is_removed_needs_an_invitation,
                the_id_of_a_group_that_ended_is_not_used_again,
                how_many_of_everything_is_limited,
            ]
            limits: [
                a_device_that_never_acknowledges_is_closed,
                a_device_that_is_silent_is_closed,
                a_device_that_never_reads_is_closed,
                too_many_frames_are_slowed_and_then_refused,
                the_window_holds_back_and_loses_nothing,
            ]
            links: [
                a_page_becomes_a_web_session,
                a_link_is_refused_or_runs_out,
                a_link_is_used_once,
                a_sixth_web_session_waits_for_room,
                only_the_phone_decides_and_only_the_page_learns,
                a_link_gives_as_much_of_the_past_as_was_allowed,
                links_are_asked_for_within_bounds,
                a_stop_sends_waiting_pages_elsewhere,
            ]
            logs: [
                no_secret_is_logged_in_text,
                no_secret_is_logged_as_json,
            ]
            membership: [
                a_direct_chat_is_one_per_pair,
                a_chat_that_begins_now_works_on_the_open_socket,
                who_leaves_gets_nothing_more,
                who_is_removed_gets_nothing_that_is_sent_after_the_answer,
                who_leaves_gets_nothing_that_is_sent_after_the_answer,
                who_comes_back_sees_nothing_from_before,
                who_comes_and_goes_all_the_time_is_in_step,
                chats_are_listed_as_they_are,
                messages_are_paged_newest_first,
            ]
            metrics: [
                what_happens_is_counted,
                a_backlog_is_no_latency,
            ]
            offsets: [
                what_is_read_on_the_phone_is_read_on_the_web,
                offsets_of_two_devices_are_one_maximum,
                offsets_are_one_map,
            ]
            pages: [
                pages_come_with_their_rules,
                what_is_no_page_is_not_found,
                a_playground_is_for_who_wants_one,
                a_user_sees_the_own_queues,
            ]
            presence: [
                whoever_watches_is_told_who_comes_and_goes,
                who_comes_and_goes_quickly_is_told_of_once_a_second,
                presence_is_for_those_who_share_a_chat,
                watching_has_bounds,
            ]
            termination: [
                whoever_may_ends_a_device_and_nothing_is_left,
                a_receipt_fills_while_the_work_goes_on,
                nobody_else_ends_a_device,
                an_ended_device_gets_no_further_frame,
            ]
            tokens: [
                a_token_may_come_in_three_ways,
                a_bad_token_closes_the_socket_with_4401,
                each_kind_of_token_opens_its_own_doors,
                user_tokens_are_checked_to_the_letter,
                a_strange_origin_is_refused,
                no_token_is_ever_logged,
            ]
            typing: [
                the_others_are_told_who_types,
                typing_is_told_once_in_three_seconds,
                typing_is_for_members_of_small_chats,
            ]
        );
    };
    ($deployment:expr; $($module:ident: [$($story:ident,)*])*) => {
        $(mod $module {
            $(#[tokio::test]
            async fn $story() {
                $crate::stories::$module::$story($deployment).await;
            })*
        })*
    };
}
