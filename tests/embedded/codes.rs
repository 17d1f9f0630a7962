//! Every code that the documents name is given by a test: the stories that provoke them are told here one after the other,
//! and what came to their clients is held against the list.

use std::collections::BTreeSet;

use crate::stories::{
    Deployment, admin, away, bad_frames, bad_phone, bad_wire, bootstrap, devices, drain, groups, limits,
    termination, tokens,
};
use crate::support::schemas::{schemas, seen};

/// What only the real stack can give: `tests/stack/codes.rs` provokes these.
const OF_THE_STACK: [&str; 2] = ["4304", "4429"];
/// What is never sent: a client's library says it when there was no close frame.
const OF_LIBRARIES: [&str; 1] = ["1006"];

#[tokio::test]
async fn every_code_is_given_by_a_story() {
    let on = Deployment::Embedded;
    bad_frames::what_is_no_good_json_is_refused_and_changes_nothing(on).await;
    bad_frames::fields_that_cannot_be_right_are_refused(on).await;
    bad_frames::content_has_64_kib_and_not_a_byte_more(on).await;
    bad_frames::ten_bad_frames_in_a_row_close_the_socket(on).await;
    bad_frames::frames_that_are_no_frames_close_the_socket(on).await;
    bad_wire::bits_that_websocket_does_not_allow_close_the_socket(on).await;
    bad_phone::a_phone_that_lies_is_found_out(on).await;
    bad_phone::a_phone_that_answers_twice_is_told_so(on).await;
    bad_phone::a_phone_that_is_silent_times_out(on).await;
    bad_phone::a_phone_that_goes_midway_ends_the_request(on).await;
    bad_phone::a_sub_that_asks_too_much_is_refused(on).await;
    tokens::a_bad_token_closes_the_socket_with_4401(on).await;
    tokens::each_kind_of_token_opens_its_own_doors(on).await;
    groups::a_password_opens_a_group(on).await;
    groups::how_many_of_everything_is_limited(on).await;
    devices::registering_again_is_the_same_device(on).await;
    devices::a_user_has_one_phone_and_five_web_sessions(on).await;
    bootstrap::without_its_phone_a_web_session_is_turned_away(on).await;
    limits::a_device_that_never_acknowledges_is_closed(on).await;
    limits::a_device_that_is_silent_is_closed(on).await;
    limits::a_device_that_never_reads_is_closed(on).await;
    away::the_older_connection_of_a_device_is_closed_as_replaced(on).await;
    admin::an_admin_closes_all_sockets_of_a_user(on).await;
    termination::whoever_may_ends_a_device_and_nothing_is_left(on).await;
    drain::a_stop_is_orderly(on).await;

    let schemas = schemas();
    let errors = schemas.openapi["components"]["schemas"]["ErrorCode"]["enum"].as_array().expect("codes");
    let errors = errors.iter().filter_map(|code| code.as_str()).map(str::to_owned);
    let closes = schemas.asyncapi["channels"]["socket"]["x-close-codes"].as_array().expect("close codes");
    let closes = closes.iter().map(|close| close["code"].to_string());
    let all: BTreeSet<String> = errors.chain(closes).collect();
    assert!(all.len() > 30, "{all:?}");
    let elsewhere = |code: &&String| [&OF_THE_STACK[..], &OF_LIBRARIES].concat().contains(&code.as_str());
    let given = seen();
    let missing: Vec<&String> =
        all.iter().filter(|code| !elsewhere(code)).filter(|code| !given.contains(*code)).collect();
    assert!(missing.is_empty(), "no story of this list provokes {missing:?}");
    let needless: Vec<&String> = all.iter().filter(elsewhere).filter(|code| given.contains(*code)).collect();
    assert!(needless.is_empty(), "{needless:?} can be given without the stack, after all");
}
