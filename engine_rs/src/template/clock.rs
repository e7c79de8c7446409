//! The `strftime_now` function of chat templates. Times are UTC.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::{Error, ErrorKind};

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Now, in a format of C's `strftime`.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now)
}

/// A point in time of the Gregorian calendar.
struct Moment {
    year: u64,
    /// From 0.
    month: usize,
    /// From 1.
    day: u64,
    /// From 1.
    day_of_year: u64,
    /// From 0, which is Sunday.
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Moment {
    fn at(seconds: u64) -> Self {
        let (days, time) = (seconds / 86_400, seconds % 86_400);
        let (mut year, mut left) = (1970, days);
        while left >= days_of_year(year) {
            left -= days_of_year(year);
            year += 1;
        }
        let day_of_year = left + 1;
        let mut month = 0;
        while left >= days_of_month(year, month) {
            left -= days_of_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: left + 1,
            day_of_year,
            // 1 January 1970 was a Thursday.
            weekday: ((days + 4) % 7) as usize,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }
}

fn days_of_year(year: u64) -> u64 {
    if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) { 366 } else { 365 }
}

fn days_of_month(year: u64, month: usize) -> u64 {
    match month {
        1 => days_of_year(year) - 337,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn strftime(format: &str, seconds: u64) -> Result<String, Error> {
    let now = Moment::at(seconds);
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut directive = characters.next();
        let plain = directive == Some('-');
        if plain {
            directive = characters.next();
        }
        let mut number = |value: u64, width: usize| {
            let width = if plain { 0 } else { width };
            _ = write!(out, "{value:0width$}");
        };
        match directive {
            Some('Y') => number(now.year, 4),
            Some('y') => number(now.year % 100, 2),
            Some('m') => number(now.month as u64 + 1, 2),
            Some('d') => number(now.day, 2),
            Some('j') => number(now.day_of_year, 3),
            Some('H') => number(now.hour, 2),
            Some('I') => number((now.hour + 11) % 12 + 1, 2),
            Some('M') => number(now.minute, 2),
            Some('S') => number(now.second, 2),
            Some('w') => number(now.weekday as u64, 1),
            Some('B') => out.push_str(MONTHS[now.month]),
            Some('b') => out.push_str(&MONTHS[now.month][..3]),
            Some('A') => out.push_str(DAYS[now.weekday]),
            Some('a') => out.push_str(&DAYS[now.weekday][..3]),
            Some('p') => out.push_str(if now.hour < 12 { "AM" } else { "PM" }),
            Some('F') => out.push_str(&strftime("%Y-%m-%d", seconds)?),
            Some('T' | 'X') => out.push_str(&strftime("%H:%M:%S", seconds)?),
            Some('Z') => out.push_str("UTC"),
            Some('%') => out.push('%'),
            other => {
                let message = format!("strftime_now does not know %{}", other.map(String::from).unwrap_or_default());
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(strftime("%d %b %Y", 0).unwrap(), "01 Jan 1970");
        assert_eq!(strftime("%A %F %T", 951_827_696).unwrap(), "Tuesday 2000-02-29 12:34:56");
        assert_eq!(
            strftime("%-d %B %Y, %I:%M %p, day %j", 1_704_067_199).unwrap(),
            "31 December 2023, 11:59 PM, day 365"
        );
        assert_eq!(strftime("%y %a 100%%", 4_107_542_400).unwrap(), "00 Mon 100%");
    }

    #[test]
    fn an_unknown_directive_is_an_error() {
        assert!(strftime("%Q", 0).is_err());
        assert!(strftime("%", 0).is_err());
    }
}
