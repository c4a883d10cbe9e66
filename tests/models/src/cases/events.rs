//! Events: who triggers and who waits see each other.

use super::{Case, case};
use crate::event::Event;
use crate::executor::block_on;
use std::{kernel, model};

pub(super) fn all() -> Vec<Case> {
    vec![case("triggers", 3, 4000, triggers), case("triggered_stream", 3, 4000, triggered_stream)]
}

fn trigger(event: &Event) {
    let trigger = event.trigger();
    model::spawn(move || trigger.trigger().unwrap());
}

/// Each of two triggers is counted once.
fn triggers() {
    kernel::set_most_counted(9);
    let event = Event::new().unwrap();
    (0..2).for_each(|_| trigger(&event));
    block_on(async {
        let mut sum = 0;
        while sum < 2 {
            sum += event.wait().await.unwrap();
        }
        assert_eq!(sum, 2);
    });
}

fn triggered_stream() {
    kernel::set_most_counted(9);
    let mut event = Event::new().unwrap();
    (0..2).for_each(|_| trigger(&event));
    block_on(async {
        let mut sum = 0;
        while sum < 2 {
            sum += event.next().await.unwrap().unwrap();
        }
        assert_eq!(sum, 2);
    });
}
