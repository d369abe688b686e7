//! A day in hours.

/// Hours of a day, the running one among them.
const HOURS: usize = 24;

/// Bytes written in each of the last 24 hours; the running one stands first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Day([u64; HOURS]);

impl Day {
    /// From a file that may hold anything: hours beyond a day are left out.
    pub fn of(hours: &[u64]) -> Self {
        let mut day = Self::default();
        for (kept, hour) in day.0.iter_mut().zip(hours) {
            *kept = *hour;
        }
        day
    }

    /// For a file.
    pub fn hours(&self) -> &[u64] {
        &self.0
    }

    /// So much was written now.
    pub fn add(&mut self, bytes: u64) {
        self.0[0] = self.0[0].saturating_add(bytes);
    }

    /// So many hours ended.
    pub fn turn(&mut self, hours: usize) {
        let hours = hours.min(HOURS);
        self.0.rotate_right(hours);
        self.0[..hours].fill(0);
    }

    /// All that was written.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, hour| sum.saturating_add(*hour))
    }
}
