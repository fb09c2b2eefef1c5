//! Dates: time stamps for the names of runs, and the day's slots of `board`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400; // seconds

/// A time as `20261127-090512`, in UTC.
pub fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let [hours, minutes, seconds] = [second / 3600, second / 60 % 60, second % 60];
    format!("{year:04}{month:02}{day:02}-{hours:02}{minutes:02}{seconds:02}")
}

/// A part of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The date in UTC, as the number 20261127.
    pub day: u64,
    /// Its number in the day, from 0.
    pub number: u64,
}

/// Divides each day, in UTC, into slots of some minutes; the last one may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Seconds of a slot.
    slot: u64,
}

impl Clock {
    /// No day has more slots.
    pub const MOST_SLOTS: u64 = DAY / 60;

    /// Slots of that many minutes, at least one.
    pub fn every_minutes(minutes: u64) -> Self {
        Self {
            slot: 60 * minutes.max(1),
        }
    }

    /// The slot of a time.
    pub fn slot(self, time: SystemTime) -> Slot {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (year, month, day) = civil(seconds / DAY);
        Slot {
            day: 10_000 * year + 100 * month + day,
            number: seconds % DAY / self.slot,
        }
    }

    /// The time until the next slot begins, never 0.
    pub fn until_next(self, time: SystemTime) -> Duration {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = since.as_secs() % DAY;
        let end = (self.slot * (second / self.slot + 1)).min(DAY);
        Duration::from_secs(end - second) - Duration::from_nanos(since.subsec_nanos().into())
    }
}

/// Year, month and day of a number of days after 1 January 1970, in years that begin with March, so that a leap day is the
/// last of its year (Hinnant 2021, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 1 March of year 0
    let (era, day_of_era) = (days / 146_097, days % 146_097); // eras of 400 years
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // from March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + 400 * era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_each_other_through_the_day() {
        for minutes in [1, 7, 60, 1440] {
            let clock = Clock::every_minutes(minutes);
            let mut time = UNIX_EPOCH + Duration::from_millis(1_798_761_599_500); // half a second before 2027
            let mut slot = clock.slot(time);
            assert_eq!(slot.day, 20_261_231);
            time += clock.until_next(time);
            for number in 0..1440_u64.div_ceil(minutes) {
                slot = clock.slot(time);
                assert_eq!(
                    slot,
                    Slot {
                        day: 20_270_101,
                        number
                    }
                );
                assert!(slot.number < Clock::MOST_SLOTS);
                time += clock.until_next(time);
            }
            assert_eq!(
                clock.slot(time),
                Slot {
                    day: 20_270_102,
                    number: 0
                },
                "{slot:?}"
            );
        }
    }

    /// The right answers are those of `date --utc`.
    #[test]
    fn stamps_are_dates() {
        for (seconds, expected) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_709_251_199, "20240229-235959"),
            (1_709_251_200, "20240301-000000"),
            (1_798_761_599, "20261231-235959"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
