//! Finds handlers that ask for the system's time. `std::time` panics in a component and works in a test on this machine, so without
//! this file such a handler would pass its tests and fail on a server. The time itself is not changed.

use std::cell::Cell;

std::thread_local! {
    /// Whether the plugin runs on this thread, and whether it has asked.
    static WATCHED: Cell<Option<bool>> = const { Cell::new(None) };
}

/// The end of the sentence that a test fails with.
pub(super) const WHY: &str = "asks for the system's time (`SystemTime::now`, `Instant::now`, or a crate that calls them), which panics \
                              in a component; take `hubbub_sdk::clock::now`, which stands still within a call";

/// Runs the plugin's code, and returns whether it has asked for the system's time.
pub(super) fn watched<T>(run: impl FnOnce() -> T) -> (T, bool) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    linux::link();
    let outer = WATCHED.replace(Some(false));
    let result = run();
    let asked = WATCHED.replace(outer);
    (result, asked == Some(true))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod linux {
    use std::ffi::{c_char, c_int, c_long, c_void};
    use std::sync::OnceLock;

    use super::WATCHED;

    #[repr(C)]
    pub(super) struct Timespec {
        seconds: i64,
        nanoseconds: c_long,
    }

    type ClockGettime = extern "C" fn(clock: c_int, time: *mut Timespec) -> c_int;

    /// The next definition of a symbol after this program's own.
    const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

    #[expect(unsafe_code, reason = "the C library's own declaration")]
    unsafe extern "C" {
        fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    }

    /// The C library's function.
    fn real() -> Option<ClockGettime> {
        static REAL: OnceLock<Option<ClockGettime>> = OnceLock::new();
        *REAL.get_or_init(|| {
            #[expect(unsafe_code, reason = "looks up the C library's function")]
            // SAFETY: the name ends in a zero byte. The function has this signature on every Linux with glibc, and `None` is null.
            unsafe {
                std::mem::transmute::<*mut c_void, Option<ClockGettime>>(dlsym(RTLD_NEXT, c"clock_gettime".as_ptr()))
            }
        })
    }

    /// Replaces the C library's function in a test program: every `now` of the standard library calls it.
    #[expect(unsafe_code, reason = "it must have the C library's name to be called instead")]
    // SAFETY: it has the signature of the C library's function, and passes every call on to it.
    #[unsafe(no_mangle)]
    extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
        // The value is absent while a thread ends.
        let _ = WATCHED.try_with(|watched| {
            if watched.get().is_some() {
                watched.set(Some(true));
            }
        });
        real().map_or(-1, |real| real(clock, time))
    }

    /// Uses the function, so that the linker includes it.
    pub(super) fn link() {
        std::hint::black_box(clock_gettime as ClockGettime);
    }
}
