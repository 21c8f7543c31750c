//! Rooms, their sizes and parts.
#![allow(clippy::unwrap_used)]

use super::unconnected as socket;
use super::*;
use crate::clock::Clock;

fn log() -> Log {
    Log::new(1, std::time::Duration::from_secs(10), 1 << 20, Clock::manual(0))
}

#[test]
fn a_user_on_two_devices_is_one_user_and_two_sockets() {
    let mut members = Members::default();
    let ana: Arc<str> = "ana".into();
    members.add(1, socket(), Some(ana.clone()), Recovery::Off);
    members.add(2, socket(), Some(ana), Recovery::Off);
    members.add(3, socket(), None, Recovery::Off);
    for socket in 1..=3 {
        assert_eq!(members.join(socket, "r", 64, 1), Joined::Joined);
    }
    assert_eq!(members.size("r"), Size { sockets: 3, users: 1, visitors: 1 });
    members.remove(1, false);
    assert_eq!(members.size("r"), Size { sockets: 2, users: 1, visitors: 1 });
    members.leave(2, "r", &log());
    members.remove(3, false);
    assert_eq!(members.size("r"), Size::default());
    assert_eq!(members.room_count(), 0);
}

#[test]
fn a_large_room_is_split_and_its_gaps_are_filled() {
    let mut members = Members::default();
    let count = PART as u64 * 2 + 1;
    for id in 0..count {
        members.add(id, socket(), None, Recovery::Off);
        members.join(id, "r", 64, 1);
    }
    let sizes = |members: &Members| (0..4).map(|at| members.part("r", at).map(|part| part.len())).collect::<Vec<_>>();
    assert_eq!(sizes(&members), [Some(PART), Some(PART), Some(1), None]);
    members.leave(0, "r", &log());
    members.add(count, socket(), None, Recovery::Off);
    members.join(count, "r", 64, 1);
    assert_eq!(sizes(&members), [Some(PART), Some(PART), Some(1), None]);
    assert!(members.part("r", 0).is_some_and(|part| part.iter().any(|member| member.id == count)));
}

#[test]
fn a_part_that_is_being_sent_to_is_not_changed() {
    let mut members = Members::default();
    for id in 1..=2 {
        members.add(id, socket(), None, Recovery::Off);
        members.join(id, "r", 64, 1);
    }
    let sending = members.part("r", 0).unwrap();
    members.remove(1, false);
    assert_eq!((sending.len(), members.count("r")), (2, 1));
}

#[test]
fn the_room_past_the_limit_is_refused() {
    let mut members = Members::default();
    members.add(1, socket(), None, Recovery::Off);
    assert_eq!(members.join(1, "a", 1, 1), Joined::Joined);
    assert_eq!(members.join(1, "a", 1, 1), Joined::Already);
    assert_eq!(members.join(1, "b", 1, 1), Joined::TooMany);
    assert_eq!(members.join(2, "a", 1, 1), Joined::Removed);
}

#[test]
fn the_members_of_two_rooms_are_those_in_both() {
    let mut members = Members::default();
    for (id, rooms) in [(1, &["a", "b"][..]), (2, &["a"]), (3, &["b"])] {
        members.add(id, socket(), None, Recovery::Off);
        for room in rooms {
            members.join(id, room, 64, 1);
        }
    }
    assert_eq!((members.in_both("a", "b"), members.in_both("a", "c")), (vec![1], vec![]));
}
