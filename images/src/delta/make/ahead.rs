//! Contents are compared ahead of whoever writes the delta, on threads of their own.
//!
//! What comes out does not depend on how many threads there are, nor on which is first.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::base::{BaseFile, BaseFiles};
use super::compare::compare;
use super::members::contents;
use crate::delta::layout::Layout;
use crate::delta::packed::{self, Packing};
use crate::delta::pieces::Piece;

/// Threads that compare, beside the one that writes.
const THREADS: usize = 2;

/// Bytes of old and new contents that are compared at once; a pair that has more is compared alone. Each takes
/// seven bytes (old) and five (new) while that lasts.
const AT_ONCE: usize = 64 << 20;

/// How a content is made from a file of the base.
pub(in crate::delta) struct Recipe<'a> {
    pub(in crate::delta) source: &'a BaseFile,
    /// Of the old and of the new content.
    pub(in crate::delta) layouts: [Layout; 2],
    pub(in crate::delta) pieces: Vec<Piece>,
    /// When both are gzip files, and the pieces make text from text.
    pub(in crate::delta) packing: Option<Packing>,
}

/// How contents are compared.
pub(in crate::delta) struct Ways {
    /// How a content is laid out.
    pub(in crate::delta) layout: fn(&[u8]) -> Layout,
    /// Whether the texts of gzip files may be compared.
    pub(in crate::delta) texts: bool,
}

/// A content that has a source.
struct Job<'a> {
    start: usize,
    source: &'a BaseFile,
    new: &'a [u8],
}

impl Job<'_> {
    fn bytes(&self) -> usize {
        self.source.content.len() + self.new.len()
    }
}

struct Compared {
    layouts: [Layout; 2],
    pieces: Vec<Piece>,
    packing: Option<Packing>,
}

#[derive(Default)]
struct State {
    /// Jobs that were begun, and bytes of those that are not done.
    begun: usize,
    bytes: usize,
    /// By where the content starts; nothing once it was taken.
    done: HashMap<usize, Option<Compared>>,
    /// A thread that compared is gone, or nobody waits any more.
    ended: bool,
}

/// Recipes for a tar's contents.
pub(in crate::delta) struct Recipes<'a> {
    jobs: Vec<Job<'a>>,
    ways: Ways,
    state: Mutex<State>,
    changed: Condvar,
}

/// Looks for a source for each content of `tar`, and compares while `write` runs.
pub(in crate::delta) fn with_recipes<'a, T>(
    base: &'a BaseFiles,
    tar: &'a [u8],
    ways: Ways,
    write: impl FnOnce(&Recipes<'a>) -> T,
) -> T {
    // Offsets have 32 bits, and sorting suffixes takes signed ones.
    let fits = |bytes: &[u8]| i32::try_from(bytes.len()).is_ok();
    let jobs = contents(tar).into_iter().filter_map(|content| {
        let new = &tar[content.start..content.start + content.size];
        let source = base.source_for(&content.path, new)?;
        (fits(&source.content) && fits(new)).then_some(Job {
            start: content.start,
            source,
            new,
        })
    });
    let recipes = Recipes {
        jobs: jobs.collect(),
        ways,
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| recipes.compare());
        }
        let _end = End {
            recipes: &recipes,
            by_panic: false,
        };
        write(&recipes)
    })
}

impl<'a> Recipes<'a> {
    /// The recipe for the content that starts here in the tar; waits for it. None when it has no source.
    pub(in crate::delta) fn at(&self, start: usize) -> Option<Recipe<'a>> {
        let found = self.jobs.binary_search_by_key(&start, |job| job.start);
        let job = &self.jobs[found.ok()?];
        let mut state = self.state();
        let done = loop {
            if let Some(done) = state.done.get_mut(&start) {
                break done.take();
            }
            if state.ended {
                break None;
            }
            state = self.wait(state);
        };
        drop(state);
        let done = done.unwrap_or_else(|| self.compared(job));
        Some(Recipe {
            source: job.source,
            layouts: done.layouts,
            pieces: done.pieces,
            packing: done.packing,
        })
    }

    /// Takes one job after the other.
    fn compare(&self) {
        let _end = End {
            recipes: self,
            by_panic: true,
        };
        loop {
            let mut state = self.state();
            let job = loop {
                let Some(job) = self.jobs.get(state.begun).filter(|_| !state.ended) else {
                    return;
                };
                if state.bytes == 0 || state.bytes + job.bytes() <= AT_ONCE {
                    break job;
                }
                state = self.wait(state);
            };
            state.begun += 1;
            state.bytes += job.bytes();
            drop(state);
            let compared = self.compared(job);
            let mut state = self.state();
            state.done.insert(job.start, Some(compared));
            state.bytes -= job.bytes();
            drop(state);
            self.changed.notify_all();
        }
    }

    fn compared(&self, job: &Job) -> Compared {
        let (old, new) = (&job.source.content[..], job.new);
        if old == new {
            let whole = Piece {
                literal: 0,
                old: 0,
                length: new.len() as u32,
                exact: true,
            };
            return Compared {
                layouts: [Layout::default(), Layout::default()],
                pieces: vec![whole],
                packing: None,
            };
        }
        let texts = [old, new].map(|file| packed::text(file).filter(|_| self.ways.texts));
        if let [Some(before), Some(after)] = &texts
            && let Some(packing) = packed::packing(new, after)
        {
            return self.laid_out(before, after, Some(packing));
        }
        self.laid_out(old, new, None)
    }

    fn laid_out(&self, old: &[u8], new: &[u8], packing: Option<Packing>) -> Compared {
        let layouts = [old, new].map(self.ways.layout);
        Compared {
            pieces: compare(old, new, layouts.each_ref()),
            layouts,
            packing,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State>) -> MutexGuard<'g, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever writes and leaves lets the others end; one that compares does so by a panic, so that nobody waits for it.
struct End<'r, 'a> {
    recipes: &'r Recipes<'a>,
    by_panic: bool,
}

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        if !self.by_panic || thread::panicking() {
            self.recipes.state().ended = true;
            self.recipes.changed.notify_all();
        }
    }
}
