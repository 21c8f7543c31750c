//! Who may use the machine: tests share it, a test that measures has it alone. Must never be taken twice by one thread.

use std::cell::RefCell;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static MACHINE: RwLock<()> = RwLock::new(());

/// A thread's share of the machine, kept until the thread, and so its test, ends.
#[expect(dead_code, reason = "held, never looked at")]
enum Share {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

thread_local! {
    // Each test runs on a thread of its own, so what is kept here lasts as long as the test.
    static SHARE: RefCell<Option<Share>> = const { RefCell::new(None) };
}

/// Takes part beside other tests; blocks while one has the machine alone. Every server start calls it.
pub fn share() {
    SHARE.with_borrow_mut(|share| {
        if share.is_none() {
            *share = Some(Share::Shared(MACHINE.read().unwrap_or_else(PoisonError::into_inner)));
        }
    });
}

/// Waits until no other test runs, and keeps others from starting. To be called before the test's first server.
pub fn alone() {
    SHARE.with_borrow_mut(|share| {
        // A share left behind by an earlier test on this thread (`--test-threads=1`) would block us for ever.
        *share = None;
        *share = Some(Share::Alone(MACHINE.write().unwrap_or_else(PoisonError::into_inner)));
    });
}
