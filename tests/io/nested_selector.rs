//! A selector inside the runtime: waited on in a task, and watched through its descriptor.

use crate::kit;
use kit::watchdog;
use selio::selector::{Events, Selector};
use selio::time::sleep;
use selio::{Async, block_on, join};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

// I08
#[test]
fn a_selector_in_an_async() {
    let _guard = watchdog(10);
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut selector = Selector::new().unwrap();
    selector.register_handle(&near, Events::READ, "data").unwrap();
    let mut selector = Async::new(selector).unwrap();
    for _ in 0..3 {
        let writes = async {
            sleep(Duration::from_millis(20)).await;
            far.write_all(b"x").unwrap();
        };
        block_on(join(selector.readable(), writes)).0.unwrap();
        let mut inner = selector.into_inner().unwrap();
        let keys = inner.select(Some(Duration::ZERO)).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(inner.get(&keys[0]), Some(&"data"));
        std::io::Read::read_exact(&mut &near, &mut [0]).unwrap();
        assert!(inner.select(Some(Duration::ZERO)).unwrap().is_empty());
        selector = Async::new(inner).unwrap();
    }
}

// I08
#[test]
fn a_select_inside_a_task() {
    let _guard = watchdog(10);
    block_on(async {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut selector = Selector::new().unwrap();
        selector.register_handle(&near, Events::READ, ()).unwrap();
        far.write_all(b"x").unwrap();
        assert_eq!(selector.select(None).unwrap().len(), 1);
        sleep(Duration::from_millis(1)).await;
        block_on(sleep(Duration::from_millis(1)));
        assert_eq!(selector.select(None).unwrap().len(), 1);
    });
}
