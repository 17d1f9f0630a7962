//! One story of two people, made by hand, and for each invariant what may and what must not be otherwise in it.

use std::collections::BTreeMap;

use crate::history::check::{MOST, check};
use crate::history::{End, Event, History, Phase, Seen, Seq, What};

mod scene;

use scene::*;

#[test]
fn a_story_in_which_all_is_well_passes() {
    Scene::new().passes();
}

#[test]
fn inventions_are_found() {
    let strange = Seen { key: s("nobody's"), ..seen(3) };
    let invented = What::Message { device: s("bobs"), socket: 2, chat: s(CHAT), seen: strange };
    Scene::new().instead(&message("bobs", 2, 3), invented).breaks([1, 2]);
    // Seen before it was sent is as bad.
    Scene::new().without(&sending(2)).before(&message("phone", 1, 2), [sending(2)]).breaks([1]);
}

#[test]
fn two_truths_are_found() {
    let other = Seen { frame: 7, ..seen(3) };
    let changed = What::Message { device: s("bobs"), socket: 2, chat: s(CHAT), seen: other };
    Scene::new().instead(&message("bobs", 2, 3), changed).breaks([2]);
    Scene::new().instead(&sent(2), What::Sent { chat: s(CHAT), key: s("k2"), seq: 1 }).breaks([2]);
    // The same key again is the same message.
    Scene::new().then([sending(2), sent(2)]).passes();
}

#[test]
fn losses_are_found() {
    Scene::new().without(&message("bobs", 2, 3)).breaks([3]);
    // It may come on another socket.
    let again = [closed("bobs", 2), connecting("bobs", 4), welcome("bobs", 4, 2, entry(3, 0, 2, 0))];
    let late = Scene::new().without(&message("bobs", 2, 3)).then(again.clone());
    late.then([message("bobs", 4, 3)]).passes();
    Scene::new().without(&message("bobs", 2, 3)).then(again).breaks([3]);
    // An acknowledged message above the head is lost.
    Scene::new().with_end(|end| end.heads = [(s(CHAT), 2)].into()).breaks([3]);
    // So is what a `from` steps over.
    let raised = entry(3, 0, 3, 3);
    let again = [closed("bobs", 2), connecting("bobs", 4), welcome("bobs", 4, 2, raised.clone())];
    let lost = Scene::new().without(&message("bobs", 2, 3)).then(again);
    lost.with_end(|end| end.devices.get_mut("bobs").unwrap().insert(s(CHAT), raised).map_or((), drop))
        .breaks([3]);
    // And a device, or its chat.
    let gone = |end: &mut End| {
        end.devices.remove("bobs");
        end.queues.retain(|(_, _, device)| device != "bobs");
    };
    Scene::new().with_end(gone).breaks([3]);
    Scene::new().with_end(|end| end.devices.get_mut("bobs").unwrap().clear()).breaks([3, 12]);
    // A gap is one, unless the rules say otherwise.
    let gap_of = |held| What::Gap { device: s("bobs"), socket: 2, chat: s(CHAT), from: 3, to: 3, held };
    let told = |held| {
        let mut told = Scene::new().instead(&message("bobs", 2, 3), gap_of(held));
        told.rules.gaps = true;
        told
    };
    told(vec![]).passes();
    // But not of what is still there.
    told(vec![3]).breaks([3]);
    let gap = gap_of(vec![]);
    Scene::new().instead(&message("bobs", 2, 3), gap.clone()).breaks([3]);
    // One whose end has begun isn't owed anything.
    let ending = What::Ending { device: s("bobs") };
    let ended = Scene::new().before(&message("bobs", 2, 3), [ending]).instead(&message("bobs", 2, 3), gap);
    ended.with_end(gone).passes();
}

#[test]
fn holes_in_the_numbers_are_found() {
    // A message whose outcome nobody knows may have a number, one that was never sent not.
    let more = |end: &mut End| end.heads = [(s(CHAT), 4)].into();
    Scene::new().with_end(more).breaks([3, 4]);
    let all = [message("bobs", 2, 4), message("phone", 1, 4), message("web", 3, 4)];
    Scene::new().then([sending(4)]).then(all).with_end(more).passes();
    Scene::new()
        .instead(&sent(1), What::Sent { chat: s(CHAT), key: s("k1"), seq: 9 })
        .breaks([2, 3, 4, 5, 8]);
}

#[test]
fn the_order_of_time_is_kept() {
    // Sent after 5 was known, and it is 4; the number 4 was free because of a message with an unknown outcome.
    let all = |seq| [message("phone", 1, seq), message("bobs", 2, seq), message("web", 3, seq)];
    let two = |events: Vec<What>| {
        let scene = Scene::new().then([sending(6)]).then(events).then(all(4)).then(all(5));
        scene.with_end(|end| end.heads = [(s(CHAT), 5)].into())
    };
    two(vec![sending(5), sent(5), sending(4), sent(4)]).breaks([5]);
    two(vec![sending(5), sending(4), sent(5), sent(4)]).passes();
    // Sent at the same time: either order.
    let both = Scene::new().without(&sending(2)).before(&sending(1), [sending(2)]);
    both.passes();
}

#[test]
fn a_broken_order_is_found() {
    Scene::new().then([message("bobs", 2, 3)]).breaks([6]);
    Scene::new()
        .without(&message("web", 3, 3))
        .then([sending(4), sent(4)])
        .then([message("phone", 1, 4), message("bobs", 2, 4), message("web", 3, 4), message("web", 3, 3)])
        .with_end(|end| end.heads = [(s(CHAT), 4)].into())
        .breaks([6]);
}

#[test]
fn what_was_acknowledged_never_comes_again() {
    let again =
        |cursor| [closed("bobs", 2), connecting("bobs", 4), welcome("bobs", 4, 2, entry(3, 0, cursor, 0))];
    Scene::new().then(again(2)).then([message("bobs", 4, 3)]).passes();
    Scene::new().then(again(1)).then([message("bobs", 4, 2), message("bobs", 4, 3)]).breaks([7]);
    Scene::new().then(again(2)).then([message("bobs", 4, 2), message("bobs", 4, 3)]).breaks([7]);
}

#[test]
fn what_is_out_of_scope_is_found() {
    // Before it came.
    Scene::new().before(&message("web", 3, 3), [message("web", 3, 2)]).breaks([8]);
    let early = welcome("web", 3, 1, entry(2, 1, 1, 1));
    let both = Scene::new().instead(&welcome("web", 3, 1, entry(2, 1, 2, 2)), early);
    both.before(&message("web", 3, 3), [message("web", 3, 2)]).breaks([8]);
    // After it left: Bob goes, message 4 is for others.
    let gone = |end: &mut End| {
        end.heads = [(s(CHAT), 4)].into();
        end.devices.get_mut("bobs").unwrap().clear();
        end.queues.retain(|(_, _, device)| device != "bobs");
    };
    let four = [sending(4), sent(4), message("phone", 1, 4), message("web", 3, 4)];
    let detached = What::Detached { device: s("bobs"), socket: 2, chat: s(CHAT) };
    let left = || Scene::new().then(leave_and("bob", false)).then(four.clone()).with_end(gone);
    left().passes();
    // From the answer on, however near: nothing that was sent after it, nor what was under way and came behind it.
    left().then([message("bobs", 2, 4)]).breaks([8]);
    let under_way = |head| {
        let [leaving, left] = leave_and("bob", false);
        let What::Left { user, chat, .. } = left else { unreachable!("he has left") };
        let left = What::Left { user, chat, head };
        let scene = Scene::new().then([leaving, sending(4), left, sent(4)]);
        scene.then([message("phone", 1, 4), message("web", 3, 4), message("bobs", 2, 4)]).with_end(gone)
    };
    under_way(Some(4)).passes();
    under_way(None).passes();
    under_way(Some(3)).breaks([8]);
    left().then([detached.clone(), message("bobs", 2, 4)]).breaks([8]);
    left().then([connecting("bobs", 5), welcome("bobs", 5, 2, entry(4, 0, 4, 0))]).breaks([8]);
    // A rejoin begins anew.
    let back =
        |from| What::Attached { device: s("bobs"), socket: 2, chat: s(CHAT), entry: entry(4, 4, from, from) };
    let rejoined = |from| {
        let entry = entry(4, 4, from, from);
        left().then([detached.clone()]).then(leave_and("bob", true)).then([back(from)]).with_end(|end| {
            end.devices.get_mut("bobs").unwrap().insert(s(CHAT), entry);
            end.queues.push((s("nsqd"), s(CHAT), s("bobs")));
        })
    };
    rejoined(4).passes();
    rejoined(2).breaks([3]);
    // Whoever came when it had 3 is owed the fourth, though nobody was told that he came.
    let boundary = |boundary| {
        let entry = entry(4, 4, 4, 4);
        let scene = left().then([detached.clone(), leave_and("bob", true)[0].clone(), back(4)]);
        scene.with_end(|end| {
            end.devices.get_mut("bobs").unwrap().insert(s(CHAT), entry);
            end.queues.push((s("nsqd"), s(CHAT), s("bobs")));
            end.boundaries = [(s("bob"), BTreeMap::from([(s(CHAT), boundary)]))].into();
        })
    };
    boundary(4).passes();
    boundary(3).breaks([3]);
}

#[test]
fn offsets_that_fall_are_found() {
    Scene::new().then([marking(3), marked(3, 3), read("web", 3, 3)]).with_end(|end| reads(end, 3)).passes();
    Scene::new().then([marking(3), marked(3, 3)]).breaks([9]);
    Scene::new()
        .then([marking(3), marked(3, 3), marking(2), marked(2, 2)])
        .with_end(|end| reads(end, 3))
        .breaks([9]);
    // An unknown outcome may count or not.
    Scene::new().then([marking(3)]).passes();
    Scene::new().then([marking(3)]).with_end(|end| reads(end, 3)).passes();
    // Nobody marked 2; nobody can have read 4.
    Scene::new().with_end(|end| reads(end, 2)).breaks([9]);
    Scene::new().then([read("web", 3, 4)]).with_end(|end| reads(end, 4)).breaks([9]);
    let twice = [marking(3), read("web", 3, 3), read("web", 3, 1)];
    Scene::new().then(twice).with_end(|end| reads(end, 3)).breaks([9]);
}

fn reads(end: &mut End, seq: Seq) {
    end.reads = [(s("alice"), BTreeMap::from([(s(CHAT), seq)]))].into();
}

#[test]
fn two_live_sessions_are_found() {
    let newer = |session| [connecting("bobs", 4), welcome("bobs", 4, session, entry(3, 0, 2, 0))];
    Scene::new().then(newer(2)).then([message("bobs", 4, 3)]).passes();
    Scene::new().then(newer(1)).breaks([10]);
    // What was on its way may come, what is sent later must not.
    let four = [sending(4), sent(4), message("phone", 1, 4), message("web", 3, 4), message("bobs", 2, 4)];
    let fourth = |end: &mut End| end.heads = [(s(CHAT), 4)].into();
    Scene::new().then(newer(2)).then(four.clone()).with_end(fourth).passes();
    let time_goes_by = (0..100).map(|_| fault(Phase::Healed));
    Scene::new().then(newer(2)).then(time_goes_by).then(four).with_end(fourth).breaks([10]);
    Scene::new().then(newer(2)).then([acking("bobs", 2, 3), acked("bobs", 2, 3)]).breaks([10]);
    // Sent before, confirmed after: nobody knows who was first.
    Scene::new().then([acking("bobs", 2, 3)]).then(newer(2)).then([acked("bobs", 2, 3)]).passes();
}

#[test]
fn sockets_closed_for_no_reason_are_found() {
    let closed = |code| What::Closed { device: s("bobs"), socket: 2, code: Some(code) };
    for code in [4300, 4302, 4303, 4304, 4305] {
        Scene::new().then([closed(code)]).passes();
    }
    for code in [4301, 4400, 4401, 4403, 4409, 4410, 4413, 4429] {
        Scene::new().then([closed(code)]).breaks([17]);
    }
    // One that was ended, and one that may be.
    let gone = |end: &mut End| {
        end.devices.remove("bobs");
        end.queues.retain(|(_, _, device)| device != "bobs");
    };
    Scene::new().then([What::Ending { device: s("bobs") }, closed(4403)]).with_end(gone).passes();
    // One with a newer connection, welcome or on its way there; not one that was turned away, or that is older and gone.
    let newer = || [connecting("bobs", 4), welcome("bobs", 4, 2, entry(3, 0, 2, 0))];
    let last = || [message("bobs", 4, 3)];
    Scene::new().then(newer()).then([closed(4409)]).then(last()).passes();
    Scene::new().then([connecting("bobs", 4), closed(4409)]).passes();
    let away = |code| What::Closed { device: s("bobs"), socket: 4, code };
    Scene::new().then([connecting("bobs", 4), away(None), closed(4409)]).passes();
    Scene::new().then([connecting("bobs", 4), away(Some(4304)), closed(4409)]).breaks([17]);
    let older = [connecting("bobs", 4), away(None)];
    Scene::new().before(&connecting("bobs", 2), older).then([closed(4409)]).breaks([17]);
}

#[test]
fn a_window_that_is_no_bound_is_found() {
    let scene = |window| {
        let mut scene = Scene::new();
        scene.rules.window = Some(window);
        scene
    };
    // The phone acknowledges nothing, Bob's 2 of 3.
    scene(3).passes();
    scene(2).breaks([18]);
    scene(2).without(&message("phone", 1, 3)).breaks([3]);
}

#[test]
fn the_ended_who_live_on_are_found() {
    let time_goes_by = || (0..50).map(|_| fault(Phase::Healed));
    let four = || [sending(4), sent(4), message("phone", 1, 4), message("bobs", 2, 4), message("web", 3, 4)];
    let fourth = |end: &mut End| end.heads = [(s(CHAT), 4)].into();
    Scene::new().web_ends().then(four()).with_end(fourth).passes();
    Scene::new().web_ends().then(time_goes_by()).then(four()).with_end(fourth).breaks([11]);
    let again = [connecting("web", 4), welcome("web", 4, 2, entry(3, 1, 3, 2))];
    Scene::new().web_ends().then(again).breaks([11]);
    Scene::new().then(end_of("web")).breaks([11]);
}

#[test]
fn leaked_queues_are_found() {
    let queue = |device: &str| What::Queue { node: s("nsqd"), chat: s(CHAT), device: s(device) };
    Scene::new().then([queue("web")]).web_ends().passes();
    Scene::new().web_ends().then([queue("web")]).breaks([12]);
    let leak = |end: &mut End| end.queues.push((s("nsqd"), s(CHAT), s("web")));
    Scene::new().web_ends().with_end(leak).breaks([12]);
    Scene::new().with_end(|end| end.queues.push((s("nsqd"), s("other"), s("web")))).breaks([12]);
    Scene::new().with_end(|end| end.queues.clear()).breaks([12]);
    Scene::new().with_end(|end| end.unpublished = [(s(CHAT), 1)].into()).breaks([12]);
    // An end that nobody confirmed may be one or not.
    let perhaps = Scene::new().then([What::Ending { device: s("web") }]);
    perhaps.with_end(|end| drop(end.devices.remove("web"))).passes();
}

#[test]
fn pages_with_holes_are_found() {
    Scene::new().then([asking(3, 10), page(3, &[1, 2], false)]).passes();
    Scene::new().then([asking(3, 1), page(3, &[2], true), asking(2, 1), page(2, &[1], false)]).passes();
    for wrong in [&[1][..], &[2], &[2, 1], &[1, 2, 3], &[1, 1, 2], &[]] {
        Scene::new().then([asking(3, 10), page(3, wrong, false)]).breaks([13]);
    }
    Scene::new().then([asking(3, 1), page(3, &[1, 2], false)]).breaks([13]);
    let other = What::Page {
        device: s("web"),
        socket: 3,
        chat: s(CHAT),
        before: 2,
        messages: vec![Seen { frame: 5, ..seen(1) }],
        more: false,
    };
    Scene::new().then([asking(2, 10), other]).breaks([13]);
}

#[test]
fn questions_without_one_answer_are_found() {
    Scene::new().then([asking(3, 10), no_page(3, "main_timeout")]).passes();
    Scene::new().then([asking(3, 10), closed("web", 3)]).passes();
    Scene::new().then([asking(3, 10)]).breaks([14]);
    let twice = [asking(3, 10), page(3, &[1, 2], false), page(3, &[1, 2], false)];
    Scene::new().then(twice).breaks([14]);
    // Offline it is only when it isn't there, or when there is reason to think so.
    let offline = || [asking(3, 10), no_page(3, "main_offline")];
    Scene::new().then(offline()).breaks([14]);
    Scene::new().then([closed("phone", 1)]).then(offline()).passes();
    Scene::new().then([fault(Phase::Begun)]).then(offline()).passes();
}

#[test]
fn what_was_refused_is_nowhere() {
    let refused = |seq: Seq| What::Refused { chat: s(CHAT), key: format!("k{seq}"), code: s("bad_field") };
    Scene::new().then([sending(4), refused(4)]).passes();
    Scene::new().instead(&sent(3), refused(3)).breaks([15]);
    // The first try may have counted, whose answer is missing.
    Scene::new().without(&sent(3)).then([sending(3), refused(3)]).passes();
}

#[test]
fn a_flood_is_counted_and_not_listed() {
    let scene = Scene::new().then((0..1000).map(|_| message("bobs", 2, 3)));
    let events = (1..).zip(scene.events).map(|(at, what)| Event { at, what }).collect();
    let violations = check(&History { events, end: scene.end, rules: scene.rules });
    assert_eq!(violations.len(), MOST + 1);
    assert_eq!(violations[MOST].what, "and 975 more of these");
}
