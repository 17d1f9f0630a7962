//! Stories: tests of Keepstep's guarantees through its public API alone (HTTP and WebSocket), the same for every way to
//! run it. Each story is an async function over a [`Deployment`]; the macro [`stories`] makes tests of them.
//!
//! `world` starts a deployment, `user` and `device` are its users, `memory` checks every frame, and `wire` is a client that
//! may break every rule.

// Each test binary has its own copy of this module and uses a part of it.
#![allow(dead_code)]

#[path = "../support/client.rs"]
pub mod client;
pub mod device;
pub mod memory;
pub mod user;
pub mod wire;
pub mod world;

pub mod addresses;
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
pub mod encodings;
pub mod expiry;
pub mod floods;
pub mod groups;
pub mod limits;
pub mod links;
pub mod logs;
pub mod membership;
pub mod metrics;
pub mod names;
pub mod offsets;
pub mod pages;
pub mod people;
pub mod presence;
pub mod quota;
pub mod rates;
pub mod registering;
pub mod requests;
pub mod start;
pub mod termination;
pub mod tokens;
pub mod typing;

pub use world::{Deployment, World};

/// One test per story on a deployment. The list is here, so that it is the same for all deployments.
#[macro_export]
macro_rules! stories {
    ($deployment:expr) => {
        $crate::stories!($deployment;
            addresses: [
                an_address_is_known_behind_a_balancer,
                an_address_that_is_nobodys_proxy_is_not_believed,
                one_address_leaves_places_for_the_pages_of_others,
                addresses_beside_each_other_leave_places_for_the_pages_of_others,
                a_decision_gives_its_place_back_to_the_address,
                connections_behind_a_balancer_are_counted_by_their_client,
                an_address_opens_connections_at_a_pace_and_others_do_not_wait,
                a_balancer_says_whose_a_connection_is_before_it,
                only_a_trusted_proxy_says_whose_a_connection_is,
                a_socket_goes_through_a_balancer,
            ]
            admin: [
                an_admin_sees_what_waits,
                an_admin_ends_a_device_after_a_dry_run,
                an_admin_closes_all_sockets_of_a_user,
            ]
            audit: [
                what_admins_do_is_written_down,
                what_an_admin_changed_cannot_be_washed_away,
                old_changes_make_room,
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
                what_was_wrong_is_told_again_in_part,
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
                what_a_client_asks_for_and_does_not_take_is_bounded,
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
            encodings: [
                legal_text_gets_through_whatever_encoder_wrote_it,
                an_applications_own_json_counts_in_its_shortest_form,
                a_frame_that_is_too_large_is_answered_and_the_socket_stays,
                a_page_of_history_gets_through_whatever_encoder_wrote_it,
            ]
            expiry: [
                a_device_that_nobody_sees_is_told_of_and_ended,
                a_device_that_is_seen_in_time_stays,
            ]
            floods: [
                hashing_passwords_is_bounded_whoever_hangs_up,
                one_user_does_not_take_all_turns_at_passwords,
                a_body_of_nobody_is_not_read,
                bodies_that_one_user_half_sends_are_bounded,
                a_page_of_messages_is_bounded_in_bytes,
                slow_readers_take_little,
                an_answer_that_nobody_takes_ends,
                lists_are_counted,
                a_list_of_chats_is_bounded_in_members,
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
                a_main_that_answers_no_question_is_looked_after,
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
            names: [
                a_name_with_a_password_leads_into_no_group_without_one,
                names_that_look_alike_are_one,
                what_hides_in_a_name_is_refused,
            ]
            offsets: [
                what_is_read_on_the_phone_is_read_on_the_web,
                offsets_of_two_devices_are_one_maximum,
                offsets_are_one_map,
            ]
            pages: [
                pages_come_with_their_rules,
                what_is_no_page_is_not_found,
                the_demo_page_can_be_switched_off,
                a_playground_is_for_who_wants_one,
                a_user_sees_the_own_queues,
            ]
            quota: [
                one_user_fills_no_more_than_the_own_part,
                what_a_queue_holds_is_its_senders_although_the_log_let_go_of_it,
                a_queue_holds_no_more_than_its_part,
            ]
            rates: [
                hanging_up_gives_no_new_rate,
                all_devices_of_a_user_have_a_rate_together,
                large_messages_count_for_more,
                messages_count_for_more_where_many_get_them,
                a_device_that_connects_again_and_again_is_told_when_it_may,
                what_is_no_frame_is_not_read_without_end,
                pieces_of_a_frame_are_counted_one_by_one,
                refused_frames_are_read_more_slowly,
                a_device_of_many_chats_connects_less_often,
            ]
            people: [
                nobody_is_put_into_many_chats_by_others,
                who_has_left_is_not_brought_back_by_the_same_user,
                an_invitation_waits_for_its_answer,
                invitations_are_bounded,
                strangers_leave_invitations_for_those_whom_a_user_knows,
                who_is_blocked_reaches_nobody,
                blocks_are_bounded_and_refuse_what_makes_no_sense,
            ]
            registering: [
                registrations_are_limited_and_ended_ones_count,
                ends_are_limited,
            ]
            requests: [
                a_request_gets_an_id_or_keeps_its_own,
                a_refusal_says_which_request_it_is_about,
                an_upgrade_has_the_id_of_its_request,
                pages_of_other_origins_read_the_id_and_send_their_own,
                the_log_says_for_which_request_and_which_session,
            ]
            presence: [
                whoever_watches_is_told_who_comes_and_goes,
                who_comes_and_goes_quickly_is_told_of_once_a_second,
                a_reload_is_told_to_nobody,
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
