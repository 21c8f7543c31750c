//! Returns free memory to the system. The allocator would keep it: after many connects at once or the compilation of a component,
//! it is as much as the memory in use.

/// Returns whole free pages. Takes a few milliseconds of one core, so never call it on a thread that serves sockets.
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

/// Resident memory of the process. Linux reports it in pages, whose size depends on the machine. None on other systems.
pub fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    in_bytes(&text, nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??)
}

/// The second number of `/proc/self/statm`, converted from pages to bytes.
fn in_bytes(statm: &str, page: i64) -> Option<i64> {
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_converted_with_the_systems_page_size() {
        assert_eq!(in_bytes("900 100 7 1 0 5 0\n", 16_384), Some(1_638_400));
        assert_eq!(in_bytes("900", 4096), None);
    }

    #[test]
    fn resident_memory_agrees_with_proc_status() {
        let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kilobytes: i64 = line.trim().trim_end_matches(" kB").parse().unwrap_or_default();
        let bytes = resident_bytes().unwrap_or_default();
        assert!((bytes - kilobytes * 1024).abs() < 64 << 20, "{bytes} bytes, and {kilobytes} kB");
    }
}
