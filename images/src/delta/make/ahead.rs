//! Contents are compared ahead of whoever writes the delta, on threads of their own.
//!
//! What comes out does not depend on how many threads there are, nor on which is first.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::base::{BaseFile, BaseFiles};
use super::compare::compare;
use super::members::contents;
use super::moved::Moved;
use super::part::Part;
use crate::delta::layout::Layout;
use crate::delta::packed::{self, Packing};
use crate::delta::pieces::Piece;

/// Threads that compare, beside the one that writes.
const THREADS: usize = 2;

/// Bytes of old and new contents that are compared at once; a pair that has more is compared alone. Each takes
/// seven bytes (old) and five (new) while that lasts.
const AT_ONCE: usize = 64 << 20;

/// How a content is made from files of the base.
pub(in crate::delta) struct Recipe<'a> {
    /// Mostly one; several follow each other.
    pub(in crate::delta) parts: Vec<Part<'a>>,
    /// When both are gzip files, and the pieces of its one part make text from text.
    pub(in crate::delta) packing: Option<Packing>,
}

/// How contents are compared.
pub(in crate::delta) struct Ways {
    /// How a content is laid out.
    pub(in crate::delta) layout: fn(&[u8]) -> Layout,
    /// Whether the texts of gzip files may be compared.
    pub(in crate::delta) texts: bool,
    /// What a content costs that is made of such parts, when it may be made from several files.
    pub(in crate::delta) cost: Option<Cost>,
}

/// Bytes of a content's parts in a delta.
type Cost = fn(&[Part<'_>], &[u8]) -> usize;

/// A content, and what it is made from.
struct Job<'a> {
    start: usize,
    source: Option<&'a BaseFile>,
    new: &'a [u8],
}

impl Job<'_> {
    fn old(&self) -> &[u8] {
        self.source.map_or(&[], |source| &source.content)
    }

    fn bytes(&self) -> usize {
        self.old().len() + self.new.len()
    }

    fn is_unchanged(&self) -> bool {
        self.old() == self.new
    }
}

#[derive(Default)]
struct State<'a> {
    /// Jobs that were begun, and bytes of those that are not done.
    begun: usize,
    bytes: usize,
    /// By where the content starts; nothing once it was taken.
    done: HashMap<usize, Option<Recipe<'a>>>,
    /// A thread that compared is gone, or nobody waits any more.
    ended: bool,
}

/// Recipes for a tar's contents.
pub(in crate::delta) struct Recipes<'a> {
    jobs: Vec<Job<'a>>,
    moved: Option<Moved<'a>>,
    ways: Ways,
    state: Mutex<State<'a>>,
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
        let source = base.source_for(&content.path, new);
        fits(new).then_some(Job {
            start: content.start,
            source: source.filter(|source| fits(&source.content)),
            new,
        })
    });
    let jobs: Vec<Job<'a>> = jobs.collect();
    let same = jobs.iter().filter(|job| job.is_unchanged());
    let same = same.filter_map(|job| job.source.map(|source| Arc::as_ptr(&source.content)));
    let same: HashSet<_> = same.collect();
    let recipes = Recipes {
        moved: ways.cost.map(|_| Moved::of(base, &same, ways.layout)),
        jobs,
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
        (!done.parts.is_empty()).then_some(done)
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

    fn compared(&self, job: &Job<'a>) -> Recipe<'a> {
        let (old, new) = (job.old(), job.new);
        let Some(source) = job.source else {
            return self.apart(job, None);
        };
        if job.is_unchanged() {
            let whole = Piece {
                literal: 0,
                old: 0,
                length: new.len() as u32,
                exact: true,
            };
            let parts = vec![Part {
                source,
                layouts: [Layout::default(), Layout::default()],
                pieces: vec![whole],
            }];
            return Recipe {
                parts,
                packing: None,
            };
        }
        let texts = [old, new].map(|file| packed::text(file).filter(|_| self.ways.texts));
        if let [Some(before), Some(after)] = &texts
            && let Some(packing) = packed::packing(new, after)
        {
            return Recipe {
                parts: vec![self.laid_out(source, before, after)],
                packing: Some(packing),
            };
        }
        self.apart(job, Some(self.laid_out(source, old, new)))
    }

    fn laid_out(&self, source: &'a BaseFile, old: &[u8], new: &[u8]) -> Part<'a> {
        let layouts = [old, new].map(self.ways.layout);
        Part {
            source,
            pieces: compare(old, new, layouts.each_ref()),
            layouts,
        }
    }

    /// In one part, if there is one; in several where that costs less.
    fn apart(&self, job: &Job<'a>, whole: Option<Part<'a>>) -> Recipe<'a> {
        let moved = self.moved.as_ref();
        let parts = moved.and_then(|moved| moved.parts(job.new, whole.as_ref()));
        let whole: Vec<Part<'a>> = whole.into_iter().collect();
        let parts = match (parts, self.ways.cost) {
            (Some(parts), Some(cost)) if cost(&parts, job.new) < cost(&whole, job.new) => parts,
            _ => whole,
        };
        Recipe {
            parts,
            packing: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State<'a>>) -> MutexGuard<'g, State<'a>> {
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
