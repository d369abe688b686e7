//! What was assigned to the board and what the console heard of it, each with its place in the disk's log: what a
//! board has told is a promise that a cut must not break.

/// Something that happened, when the disk had been asked for `at` things.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at: usize,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A release was assigned; whether it can prove healthy.
    Assigned { number: u64, good: bool },
    /// The console heard how that ended.
    Ended { number: u64, good: bool },
}

#[derive(Debug, Default)]
pub struct History(Vec<Entry>);

/// What a board must say after a cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Versions of which one must run, whole.
    pub versions: Vec<u64>,
    /// Counters may not be below this.
    pub counter: u64,
    /// A deployment was under way.
    pub under_way: Option<u64>,
}

impl History {
    pub fn note(&mut self, at: usize, what: What) {
        self.0.push(Entry { at, what });
    }

    /// Where the first deployment had ended.
    pub fn first_end(&self) -> usize {
        let ended = self
            .0
            .iter()
            .find(|entry| matches!(entry.what, What::Ended { .. }));
        ended.map_or(0, |entry| entry.at)
    }

    /// The last version that stayed.
    pub fn newest(&self) -> u64 {
        self.promise(usize::MAX).versions[0]
    }

    /// What holds after a cut at `at`.
    pub fn promise(&self, at: usize) -> Promise {
        let mut promise = Promise {
            versions: vec![0],
            counter: 0,
            under_way: None,
        };
        for entry in self.0.iter().filter(|entry| entry.at <= at) {
            match entry.what {
                What::Assigned { number, good } => {
                    promise.under_way = Some(number);
                    if good {
                        promise.versions.push(number);
                    }
                }
                What::Ended { number, good } => {
                    promise.under_way = None;
                    promise.counter = number;
                    match good {
                        true => promise.versions = vec![number],
                        false => promise.versions.truncate(1),
                    }
                }
            }
        }
        promise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_binds_and_what_is_under_way_is_open() {
        let mut history = History::default();
        for (at, number, good) in [(10, 1, true), (30, 2, true), (50, 3, false)] {
            history.note(at, What::Assigned { number, good });
            history.note(at + 10, What::Ended { number, good });
        }
        let versions = |at| history.promise(at).versions;
        assert_eq!(history.first_end(), 20);
        assert_eq!(history.newest(), 2);
        assert_eq!(versions(25), [1]);
        assert_eq!(versions(35), [1, 2]);
        assert_eq!(versions(45), [2]);
        // One that cannot prove healthy must never be what a board comes back with.
        assert_eq!(versions(55), [2]);
        assert_eq!(history.promise(55).under_way, Some(3));
        assert_eq!(
            (history.promise(55).counter, history.promise(60).counter),
            (2, 3)
        );
    }
}
