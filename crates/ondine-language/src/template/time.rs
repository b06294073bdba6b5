//! The time that templates write.

use jiff::{
    Zoned,
    civil::{DateTime, date},
};
use minijinja::{Error, ErrorKind};

/// The time of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now(DateTime);

impl Now {
    /// The time that it is here.
    #[must_use]
    pub fn here() -> Self {
        Self(Zoned::now().datetime())
    }

    /// Midday of a day, from the year 1 to 9999; midday of 1 January 1970 if there is no such day.
    #[must_use]
    pub fn midday(year: i16, month: i8, day: i8) -> Self {
        let day = jiff::civil::Date::new(year, month, day).unwrap_or(date(1970, 1, 1));
        Self(day.at(12, 0, 0, 0))
    }

    /// As `strftime` of C writes it.
    pub(super) fn written(self, format: &str) -> Result<String, Error> {
        jiff::fmt::strtime::format(format, self.0)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("time format {format:?}: {error}")))
    }
}
