//! Memory that is given back by hand: once, and not used afterwards. So it stays allocated until the
//! run is over.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::Mutex;

static FREED: Mutex<BTreeMap<usize, Layout>> = Mutex::new(BTreeMap::new());

/// # Safety
///
/// As std's.
pub unsafe fn dealloc(place: *mut u8, layout: Layout) {
    let known = FREED.lock().unwrap().insert(place.expose_provenance(), layout);
    assert!(known.is_none(), "freed twice");
}

/// How often memory was freed in this run.
pub fn freed() -> usize {
    FREED.lock().unwrap().len()
}

/// Fails if an address is in memory that was freed.
pub(crate) fn look_at(address: usize) {
    let below = FREED.lock().unwrap().range(..=address).next_back().map(|(at, it)| (*at, *it));
    let is_freed = below.is_some_and(|(at, layout)| address < at + layout.size());
    assert!(!is_freed, "used after it was freed");
}

/// Gives back what the last run has freed.
pub(crate) fn reset() {
    let freed = std::mem::take(&mut *FREED.lock().unwrap());
    for (address, layout) in freed {
        // SAFETY: it was allocated so, and `dealloc` was called once.
        unsafe { std::alloc::dealloc(std::ptr::with_exposed_provenance_mut(address), layout) };
    }
}
