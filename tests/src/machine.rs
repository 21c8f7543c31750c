//! Access to the machine: tests share it, and a test that measures has it to itself. Must never be taken twice by one thread.

use std::cell::RefCell;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// A thread's share of the machine, held until the thread and its test end.
#[expect(dead_code, reason = "held for its Drop, never read")]
enum Share {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

thread_local! {
    // Each test runs on a thread of its own, so this value lasts as long as the test.
    static SHARE: RefCell<Option<Share>> = const { RefCell::new(None) };
}

/// Runs beside other tests; blocks while a test has the machine to itself. Every server start calls it.
pub fn shared() {
    SHARE.with_borrow_mut(|share| {
        if share.is_none() {
            *share = Some(Share::Shared(MACHINE.read()));
        }
    });
}

/// Waits until no other test runs and keeps others from starting. To be called before the test's first server.
pub fn exclusive() {
    SHARE.with_borrow_mut(|share| {
        // A share of an earlier test on this thread (`--test-threads=1`) would block for ever.
        *share = None;
        *share = Some(Share::Alone(MACHINE.write()));
    });
}
