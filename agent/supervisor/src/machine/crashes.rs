//! The machine with everything around it that a cut can separate: each write to the disk and each end or start of a set is a step
//! of its own, and before and after each of them the supervisor can be killed or the power go, also while the board is on its way
//! back from an earlier cut. All of it is tried, until nothing new appears.

use super::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const PAGE: &str = include_str!("../../../../docs/deployment.md");

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Set {
    Old,
    New,
}

/// What a cut leaves, and what it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// On the disk: `current.json`, `trial.json`, `waiting.json`, and the counters of the new set's documents.
    committed: Set,
    trial: bool,
    parked: bool,
    counted: bool,
    /// Processes. An app that is handed over serves on when the others of its set have ended.
    old: bool,
    new: bool,
    old_serves: bool,
    new_serves: bool,
    hands_over: bool,
    /// Whose version the volume's contents are, whether the new set makes another of them, and whether there is a copy.
    data: Set,
    converts: bool,
    copy: bool,
    /// There was a deployment, and it ended or a cut ended it.
    over: bool,
}

/// One thing that happens whole or not at all.
type Step = fn(&mut World);

const OLD_ENDS: Step = |w| w.old = false;
const OLD_STARTS: Step = |w| (w.old, w.old_serves) = (true, w.hands_over);
const NEW_STARTS: Step = |w| {
    w.new = true;
    if w.converts {
        w.data = Set::New;
    }
};
const NEW_ENDS: Step = |w| (w.new, w.new_serves) = (false, false);
const RELIEVED: Step = |w| w.old_serves = false;
const TAKES_OVER: Step = |w| (w.old_serves, w.new_serves) = (false, w.hands_over);
const TRIAL_WRITTEN: Step = |w| w.trial = true;
const TRIAL_REMOVED: Step = |w| w.trial = false;
const COUNTED: Step = |w| w.counted = true;
const PARKED: Step = |w| w.parked = true;
const UNPARKED: Step = |w| w.parked = false;
/// The rename of `trial.json`.
const COMMITTED: Step = |w| (w.committed, w.trial) = (Set::New, false);
const COPIED: Step = |w| w.copy = w.converts;
const PUT_BACK: Step = |w| {
    if w.copy {
        (w.data, w.copy) = (Set::Old, false);
    }
};
const COPY_DROPPED: Step = |w| w.copy = false;
const OVER: Step = |w| w.over = true;

/// What an action does at once.
fn steps_of(action: &Action) -> Vec<Step> {
    match action {
        Action::Park => vec![PARKED],
        Action::Unpark => vec![UNPARKED],
        Action::HandOver => vec![TAKES_OVER],
        Action::Forget(_) => vec![UNPARKED, TRIAL_REMOVED],
        Action::Report(Report::Committed | Report::Ended(..)) => vec![OVER],
        Action::Record
        | Action::StopOld
        | Action::CopyVolumes
        | Action::StartNew
        | Action::OpenTrial
        | Action::Keep
        | Action::StopNew
        | Action::StartOld
        | Action::Report(_) => vec![],
    }
}

/// What can happen in a state: the event, and what has come true by then, in this order.
fn futures(state: &State, world: &World) -> Vec<(Event, Vec<Step>)> {
    let why = || Why::new("test", "fault");
    let fault = |before: Vec<Step>| (Event::Fault(why()), before);
    match state {
        State::Idle if world.over => vec![],
        State::Idle => vec![(Event::Activate, vec![]), (Event::Hold(why()), vec![])],
        State::Waiting => vec![
            (Event::Activate, vec![]),
            (Event::Hold(why()), vec![]),
            (Event::Withdrawn(why()), vec![]),
        ],
        State::Recording => vec![
            (
                Event::Recorded,
                vec![COPY_DROPPED, TRIAL_WRITTEN, COUNTED, UNPARKED],
            ),
            (Event::RecordFailed(why()), vec![]),
            (
                Event::RecordFailed(why()),
                vec![TRIAL_WRITTEN, TRIAL_REMOVED],
            ),
            // The counters are on the disk, and the answer to it was an error.
            (
                Event::RecordFailed(why()),
                vec![TRIAL_WRITTEN, COUNTED, TRIAL_REMOVED],
            ),
        ],
        State::StoppingOld => vec![(Event::OldStopped, vec![OLD_ENDS])],
        State::Copying => vec![
            (Event::Copied, vec![COPIED]),
            fault(vec![]),
            fault(vec![COPIED]),
        ],
        State::Starting => vec![
            (Event::NewStarted, vec![NEW_STARTS]),
            fault(vec![]),
            fault(vec![NEW_STARTS]),
        ],
        State::HandingOver => vec![(Event::Ready, vec![]), fault(vec![])],
        State::Relieving => vec![(Event::Relieved, vec![RELIEVED]), fault(vec![])],
        State::Trial => vec![(Event::Passed, vec![]), fault(vec![])],
        State::Keeping => vec![(Event::Kept, vec![COMMITTED, COPY_DROPPED]), fault(vec![])],
        State::StoppingNew(..) => {
            let stopped = (Event::NewStopped, vec![NEW_ENDS, PUT_BACK]);
            vec![stopped, fault(vec![])]
        }
        State::Restoring(..) => vec![(Event::RestoredOld, vec![OLD_STARTS]), fault(vec![])],
    }
}

type Node = (String, World);

#[derive(Default)]
struct Explored {
    queue: VecDeque<(State, World)>,
    known: BTreeSet<Node>,
    /// Without cuts.
    edges: BTreeMap<Node, BTreeSet<Node>>,
    transitions: BTreeSet<String>,
    cuts: usize,
}

fn node(state: &State, world: &World) -> Node {
    (format!("{state:?}"), *world)
}

fn name(state: &State) -> String {
    word(&format!("{state:?}"))
}

fn word(debug: &str) -> String {
    debug.split('(').next().unwrap_or_default().to_owned()
}

impl Explored {
    fn found(&mut self, state: State, world: World) {
        if self.known.insert(node(&state, &world)) {
            self.queue.push_back((state, world));
        }
    }

    /// What the state file of the supervisor in /run says after a kill, and after the power went, when it is gone.
    fn cut(&mut self, world: World) {
        let dark = World {
            old: false,
            new: false,
            old_serves: false,
            new_serves: false,
            ..world
        };
        for after in [world, dark] {
            self.cuts += 1;
            self.start(after);
        }
    }

    /// As `Supervisor::start` goes on from what it finds.
    fn start(&mut self, mut world: World) {
        let old_runs = world.committed == Set::Old && world.old;
        let event = found(world.trial, old_runs, world.parked);
        if world.trial {
            assert_eq!(world.committed, Set::Old, "{world:?}");
        } else {
            COPY_DROPPED(&mut world);
            // The committed set's apps are started or adopted, and all others ended.
            match world.committed {
                Set::Old => {
                    NEW_ENDS(&mut world);
                    OLD_STARTS(&mut world);
                }
                Set::New => {
                    (world.old, world.old_serves) = (false, false);
                    (world.new, world.new_serves) = (true, world.hands_over);
                }
            }
        }
        match event {
            None => {
                OVER(&mut world);
                check(&State::Idle, &world);
                self.found(State::Idle, world);
            }
            Some(event) => {
                if event == Event::FoundUntried {
                    // What was told to end already is started again.
                    assert!(!world.new, "{world:?}");
                    if world.copy {
                        // It cannot be put back now: what still runs is ended, and all of it waits for that.
                        OLD_ENDS(&mut world);
                        self.happens(&State::Idle, world, Event::FoundTrial, &[], None);
                    }
                    PUT_BACK(&mut world);
                    OLD_STARTS(&mut world);
                }
                self.happens(&State::Idle, world, event, &[], None);
            }
        }
    }

    /// An event, with a cut before and after each step to it and from it.
    fn happens(
        &mut self,
        state: &State,
        mut world: World,
        event: Event,
        before: &[Step],
        from: Option<&Node>,
    ) {
        let words = word(&format!("{event:?}"));
        for step in before {
            step(&mut world);
            check_always(&world);
            self.cut_once(world);
        }
        let (next, actions) = state.clone().on(event).unwrap();
        self.transitions
            .insert(format!("    {} --> {} : {words}", name(state), name(&next)));
        for action in &actions {
            asked(action, &world);
            for step in steps_of(action) {
                step(&mut world);
                check_always(&world);
                self.cut_once(world);
            }
        }
        check(&next, &world);
        if let Some(from) = from {
            let edges = self.edges.entry(from.clone()).or_default();
            edges.insert(node(&next, &world));
        }
        self.found(next, world);
    }

    /// Between two steps: once for each world, which is all that a cut leaves.
    fn cut_once(&mut self, world: World) {
        if self.known.insert(("cut".to_owned(), world)) {
            self.cut(world);
        }
    }
}

/// What has to be true before an action begins.
fn asked(action: &Action, w: &World) {
    match action {
        Action::StopOld => assert!(w.trial && w.counted && !w.parked, "{w:?}"),
        Action::StartNew => {
            assert!(!w.old && w.trial && w.counted, "{w:?}");
            assert_eq!(w.copy, w.converts, "{w:?}");
        }
        Action::Keep => assert!(w.new && w.trial && !w.old_serves, "{w:?}"),
        Action::Forget(_) | Action::StartOld => assert!(!w.new, "{w:?}"),
        _ => {}
    }
}

/// Between any two steps.
fn check_always(w: &World) {
    assert!(!(w.old && w.new), "both sets run: {w:?}");
    assert!(!(w.old_serves && w.new_serves), "two have a port: {w:?}");
    // What runs or is committed was counted, so that no older document comes after it.
    assert!(w.counted || !w.new && w.committed == Set::Old, "{w:?}");
    assert!(
        !w.old || w.data == Set::Old,
        "the old set has new data: {w:?}"
    );
    // What a copy is of is not lost before the new set is committed.
    let could_come_back = w.data == Set::Old || w.copy || w.committed == Set::New;
    assert!(could_come_back, "{w:?}");
    // A new set runs only while the disk knows how it goes on.
    assert!(!w.new || w.trial || w.committed == Set::New, "{w:?}");
}

/// Where the board rests.
fn check(state: &State, w: &World) {
    check_always(w);
    let (old, new) = (w.committed == Set::Old, w.committed == Set::New);
    match state {
        State::Idle => {
            assert_eq!((w.old, w.new), (old, new), "not the committed set: {w:?}");
            assert!(!w.trial && !w.parked && !w.copy, "{w:?}");
            assert_eq!(w.data == Set::New, new && w.converts, "{w:?}");
            let serves = (w.old_serves, w.new_serves);
            assert_eq!(serves, (old && w.hands_over, new && w.hands_over), "{w:?}");
        }
        State::Waiting => assert!(w.old && old && w.parked && !w.trial, "{w:?}"),
        _ => {}
    }
}

fn explore() -> Explored {
    let mut all = Explored::default();
    // What is converted is not handed over: that is refused.
    for (hands_over, converts) in [(false, false), (true, false), (false, true)] {
        let world = World {
            committed: Set::Old,
            trial: false,
            parked: false,
            counted: false,
            old: true,
            new: false,
            old_serves: hands_over,
            new_serves: false,
            hands_over,
            data: Set::Old,
            converts,
            copy: false,
            over: false,
        };
        all.found(State::Idle, world);
    }
    while let Some((state, world)) = all.queue.pop_front() {
        all.cut_once(world);
        let from = node(&state, &world);
        for (event, before) in futures(&state, &world) {
            all.happens(&state, world, event, &before, Some(&from));
        }
    }
    all.known.retain(|(state, _)| state != "cut");
    all
}

#[test]
fn a_cut_before_and_after_each_step_leaves_the_old_set_or_the_new_one() {
    let all = explore();
    let settled = |set| {
        let mut nodes = all.known.iter();
        nodes.any(|(state, world)| state == "Idle" && world.over && world.committed == set)
    };
    assert!(settled(Set::Old) && settled(Set::New));
    assert!(all.known.len() > 50, "{} situations", all.known.len());
    assert!(all.cuts > 60, "{} cuts", all.cuts);
    // From each situation the board comes to rest by itself.
    let mut rests: BTreeSet<&Node> = all.known.iter().filter(|(s, _)| s == "Idle").collect();
    loop {
        let leads = |node: &&Node| {
            let next = all.edges.get(*node);
            next.is_some_and(|next| next.iter().any(|node| rests.contains(node)))
        };
        let more: Vec<&Node> = all.known.iter().filter(leads).collect();
        let before = rests.len();
        rests.extend(more);
        if rests.len() == before {
            break;
        }
    }
    let stuck = all.known.iter().find(|node| !rests.contains(node));
    assert_eq!(stuck, None);
}

/// Neither set runs while one ends and the other starts, and at no time else: not in the trial's window, nor while a set waits.
#[test]
fn neither_set_runs_for_as_long_as_a_stop_and_a_start_take_and_no_longer() {
    let all = explore();
    let neither = |w: &World| !(w.old || w.new || w.old_serves || w.new_serves);
    let dark: BTreeSet<&Node> = all.known.iter().filter(|(_, w)| neither(w)).collect();
    assert!(!dark.is_empty());
    for (state, world) in &dark {
        let short = ["Copying", "Starting", "StoppingNew", "Restoring"];
        assert!(short.contains(&word(state).as_str()), "{state}: {world:?}");
    }
    // One after the other, in no circle.
    fn longest(node: &Node, all: &Explored, dark: &BTreeSet<&Node>, depth: usize) -> usize {
        assert!(depth < 10, "a circle without a set: {node:?}");
        let next = all.edges.get(node).into_iter().flatten();
        // A second fault changes nothing: the same situation.
        let next = next.filter(|next| dark.contains(next) && *next != node);
        let lengths = next.map(|next| longest(next, all, dark, depth + 1));
        1 + lengths.max().unwrap_or(0)
    }
    let longest = dark.iter().map(|node| longest(node, &all, &dark, 0)).max();
    let four = "Copying, Starting, StoppingNew, Restoring";
    assert_eq!(longest, Some(4), "{four}");
}

/// docs/deployment.md draws what the machine does; `CORACLE_WRITE_GOLDEN=1` draws it anew.
#[test]
fn the_page_draws_each_transition() {
    let drawn: Vec<String> = explore().transitions.into_iter().collect();
    let drawn = format!("stateDiagram-v2\n    [*] --> Idle\n{}\n", drawn.join("\n"));
    let (before, rest) = PAGE.split_once("```mermaid\n").unwrap();
    let (block, after) = rest.split_once("```").unwrap();
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deployment.md");
        std::fs::write(page, format!("{before}```mermaid\n{drawn}```{after}")).unwrap();
    } else {
        assert_eq!(block, drawn);
    }
}
