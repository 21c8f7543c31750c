//! Memory that is free goes back to the system. The allocator keeps it otherwise: after a storm of connects, and after a
//! component was compiled, that is as much again as what is in use.

/// Gives back whole free pages. Takes a few milliseconds of one core: not for a thread that serves sockets.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "the C library's own call, which takes a number and touches free memory only")]
        // SAFETY: `malloc_trim` may be called at any time from any thread (MT-Safe, as its manual says).
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Memory of the process that is in RAM. Linux tells it in pages; elsewhere nobody does.
pub fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
