//! Alarms that are dropped on another thread than that in whose queue they stand.

use super::{Case, case};
use crate::executor::block_on;
use crate::reactor::{Alarm, next_deadline};
use std::model;
use std::plain::{Arc, Wake};
use std::task::Waker;
use std::time::{Duration, Instant};

pub(super) fn all() -> Vec<Case> {
    vec![case("withdrawn", 3, 4000, withdrawn)]
}

struct Quiet;

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        panic!("the deadline has not come");
    }
}

/// Two threads drop one each, while their queue is looked at. Then there is none left.
fn withdrawn() {
    block_on(async {
        let quiet = Arc::new(Quiet);
        let dropping = [(); 2].map(|()| {
            let deadline = Instant::now() + Duration::from_secs(1000);
            let waker = Waker::from(Arc::clone(&quiet));
            let alarm = Alarm::set(deadline, &waker).expect("a reactor can be made");
            model::spawn(move || drop(alarm))
        });
        _ = next_deadline();
        dropping.map(|thread| thread.join().unwrap());
        assert!(next_deadline().is_none(), "withdrawn, and not let go");
        assert_eq!(Arc::strong_count(&quiet), 1);
    });
}
