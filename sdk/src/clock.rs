//! Time. It stands still within one call, also if the call runs again: do not measure with it.
//!
//! It is the server's wall clock, which may be set while the plugin runs, by an hour or by years, either way. Use it for times that
//! are shown or stored. To wait, use [`timers`](crate::timers); to limit a rate, use [`budget`](crate::budget): both are monotonic.
//! A plugin that compares a stored time with the current one must treat a stored time in the future as past, or it waits until the
//! clock reaches that time again:
//!
//! ```
//! # fn is_over(stored: u64, now: u64, window: u64) -> bool {
//! now >= stored + window || stored > now + window
//! # }
//! # assert!(is_over(9_000, 1_000, 500) && !is_over(1_000, 1_200, 500));
//! ```

use crate::host;

/// When this call began by the wall clock, in milliseconds since 1970-01-01T00:00:00Z. A later call may get an earlier time.
pub fn now() -> u64 {
    host::clock::now()
}

/// A time as clients read it: RFC 3339, UTC, with milliseconds (`2024-11-16T10:30:00.000Z`).
///
/// ```
/// assert_eq!(hubbub_sdk::clock::rfc3339(1_731_753_000_042), "2024-11-16T10:30:00.042Z");
/// ```
pub fn rfc3339(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, (unix_ms % 86_400_000) as u32);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    // `format!` costs ten times as much, and many messages carry a time.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let numbers =
        [(year as u32, 0, 4), (month, 5, 2), (day, 8, 2), (hour, 11, 2), (minute, 14, 2), (second, 17, 2), (ms % 1000, 20, 3)];
    for (mut number, start, width) in numbers {
        for digit in text[start..start + width].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The civil date of a day since 1970-01-01 (Howard Hinnant's `civil_from_days`, for days that are not negative).
fn civil(days: u64) -> (u64, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates_at_leap_days_and_century_ends_are_right() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }
}
