use super::*;
use std::collections::{BTreeSet, VecDeque};

fn why(text: &str) -> Why {
    Why::new("test", text)
}

fn events() -> Vec<Event> {
    vec![
        Event::Activate,
        Event::Hold(why("lock")),
        Event::Withdrawn(why("newer")),
        Event::FoundWaiting,
        Event::Recorded,
        Event::RecordFailed(why("disk")),
        Event::OldStopped,
        Event::Copied,
        Event::NewStarted,
        Event::Ready,
        Event::Relieved,
        Event::Fault(why("app")),
        Event::Passed,
        Event::Kept,
        Event::NewStopped,
        Event::RestoredOld,
        Event::FoundTrial,
    ]
}

/// A board that does what the actions say: what is on disk, what runs. Of an app that is handed over `old_serves` and
/// `new_serves` tell which one has its ports; without one, neither ever does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    state: String,
    hands_over: bool,
    old_serves: bool,
    new_serves: bool,
    handed_over: bool,
    trial_on_disk: bool,
    parked: bool,
    copied: bool,
    old_committed: bool,
    old_runs: bool,
    new_runs: bool,
    ended: Option<bool>,
}

impl Model {
    fn start() -> Self {
        Self::of(false)
    }

    fn of(hands_over: bool) -> Self {
        Self {
            state: String::new(),
            hands_over,
            old_serves: hands_over,
            new_serves: false,
            handed_over: false,
            trial_on_disk: false,
            parked: false,
            copied: false,
            old_committed: true,
            old_runs: true,
            new_runs: false,
            ended: None,
        }
    }

    /// What has happened by the time that the event comes.
    fn happened(&mut self, event: &Event) {
        match event {
            Event::Copied => self.copied = true,
            Event::NewStopped | Event::Kept => self.copied = false,
            _ => {}
        }
        if *event == Event::Kept {
            self.trial_on_disk = false;
            self.old_committed = false;
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Park => {
                assert!(self.old_runs && !self.trial_on_disk);
                self.parked = true;
            }
            Action::Unpark => {
                assert!(self.old_runs && !self.new_runs && !self.trial_on_disk);
                self.parked = false;
            }
            Action::Report(Report::Waiting(_)) => {
                assert!(self.old_runs && self.old_committed && !self.new_runs && self.parked);
            }
            Action::Record => {
                self.trial_on_disk = true;
                self.parked = false;
            }
            Action::StopOld => {
                assert!(!self.parked, "a restart would find it twice");
                assert!(
                    self.trial_on_disk,
                    "the old set stops before the journal knows why"
                );
                self.old_runs = false;
            }
            Action::StartNew => {
                assert!(!self.old_runs, "both sets at once");
                assert!(self.copied, "nothing of its data could come back");
                self.new_runs = true;
            }
            Action::CopyVolumes => {
                assert!(self.trial_on_disk && !self.old_runs && !self.new_runs);
            }
            Action::OpenTrial => assert!(self.new_runs && self.new_serves == self.hands_over),
            Action::Keep => assert!(self.new_runs && self.trial_on_disk && !self.old_serves),
            Action::HandOver => {
                assert!(self.new_runs && self.trial_on_disk && !self.old_runs);
                self.new_serves = self.hands_over;
                self.old_serves = false;
                self.handed_over = true;
            }
            Action::StopNew => {
                self.new_runs = false;
                self.new_serves = false;
            }
            Action::Forget(_) => {
                assert!(!self.new_runs, "forgotten while it runs");
                self.trial_on_disk = false;
            }
            Action::StartOld => {
                assert!(!self.new_runs, "both sets at once");
                assert!(!self.copied, "it would find the new set's data");
                self.old_runs = true;
                self.old_serves = self.hands_over;
            }
            Action::Report(Report::Committed) => {
                assert!(!self.old_committed && self.new_runs);
                self.ended = Some(true);
            }
            Action::Report(Report::Ended(..)) => {
                assert!(self.old_committed && self.old_runs && !self.new_runs);
                self.ended = Some(false);
            }
            Action::Report(_) => {}
        }
    }
}

/// Every order of events that the machine takes, until no new situation appears: at idle exactly one
/// set runs, whole, and nothing is left of a trial.
#[test]
fn every_path_ends_with_exactly_one_set() {
    let both = [false, true].map(|hands_over| (State::Idle, Model::of(hands_over)));
    let mut queue = VecDeque::from(both);
    let mut known = BTreeSet::new();
    let (mut kept, mut undone, mut waited) = (0, 0, 0);
    while let Some((state, model)) = queue.pop_front() {
        for event in events() {
            // After an end the next deployment is the same game; a found trial only at a start.
            let found = matches!(event, Event::FoundTrial | Event::FoundWaiting);
            if state.is_idle() && (model.ended.is_some() || found) {
                continue;
            }
            let mut after = model.clone();
            after.happened(&event);
            let Ok((next, actions)) = state.clone().on(event) else {
                continue;
            };
            for action in &actions {
                after.act(action);
            }
            after.state = format!("{next:?}");
            assert!(!(after.old_serves && after.new_serves), "{after:?}");
            // Whatever happens: what is handed over is somebody's until it was and is taken back.
            let is_back = matches!(next, State::StoppingNew(..) | State::Restoring(..));
            if after.hands_over && !(after.handed_over && is_back) {
                assert!(after.old_serves || after.new_serves, "{after:?}");
            }
            if next == State::Waiting {
                // Waiting is no switch: the old set is whole, and a cut finds what waits.
                assert!(
                    after.old_runs && !after.new_runs && after.parked,
                    "{after:?}"
                );
                waited += 1;
            }
            if next.is_idle() {
                assert!(after.old_runs != after.new_runs, "{after:?}");
                assert!(!after.trial_on_disk && !after.parked, "{after:?}");
                match after.ended {
                    Some(true) => kept += 1,
                    Some(false) => undone += 1,
                    None => panic!("idle without a word: {after:?}"),
                }
            }
            if known.insert(after.clone()) {
                queue.push_back((next, after));
            }
        }
    }
    assert!(kept > 0 && undone > 0 && waited > 0);
    assert!(known.len() >= 8, "{}", known.len());
}

/// A cut in any state: the journal decides. With a trial on disk the board goes back, without one the
/// committed set starts, and both ways one set runs.
#[test]
fn a_cut_anywhere_ends_in_a_whole_set() {
    let mut path = vec![(State::Idle, Model::of(true))];
    for event in [
        Event::Activate,
        Event::Recorded,
        Event::OldStopped,
        Event::Copied,
        Event::NewStarted,
        Event::Ready,
        Event::Relieved,
        Event::Passed,
        Event::Kept,
    ] {
        let (state, mut model) = path.last().unwrap().clone();
        model.happened(&event);
        let (next, actions) = state.on(event).unwrap();
        for action in &actions {
            // A cut between two actions as well.
            model.act(action);
            path.push((next.clone(), model.clone()));
        }
        path.push((next, model));
    }
    for (_, mut model) in path {
        let mut adopted = model.clone();
        model.old_runs = false;
        model.new_runs = false;
        (model.old_serves, model.new_serves) = (false, false);
        if !model.trial_on_disk {
            continue; // The supervisor starts the committed set, whichever it is.
        }
        // Where the old apps were not even told to end, they are adopted instead.
        let mut untried = model.clone();
        untried.old_runs = true;
        let (state, actions) = State::Idle.on(Event::FoundUntried).unwrap();
        actions.iter().for_each(|action| untried.act(action));
        assert!(state.is_idle() && !untried.trial_on_disk && untried.ended == Some(false));

        let mut state = State::Idle;
        for event in [Event::FoundTrial, Event::NewStopped, Event::RestoredOld] {
            model.happened(&event);
            let (next, actions) = state.on(event).unwrap();
            actions.iter().for_each(|action| model.act(action));
            state = next;
        }
        assert_eq!(state, State::Idle);
        assert!(model.old_runs && !model.new_runs && !model.trial_on_disk);
        assert_eq!(model.ended, Some(false));
        assert!(model.old_serves && !model.new_serves);

        // Where only the supervisor was cut off, what serves on does not stop for that before it was relieved.
        if adopted.old_runs {
            continue;
        }
        let mut state = State::Idle;
        for event in [Event::FoundTrial, Event::NewStopped, Event::RestoredOld] {
            adopted.happened(&event);
            let (next, actions) = state.on(event).unwrap();
            actions.iter().for_each(|action| adopted.act(action));
            assert!(adopted.old_serves || adopted.handed_over);
            state = next;
        }
        assert!(adopted.old_runs && adopted.old_serves && !adopted.new_runs);
    }
}

/// A cut while a set waits: it waits on, and both ways out of that end with a whole set.
#[test]
fn a_cut_while_it_waits_finds_it_again() {
    let (state, actions) = State::Idle.on(Event::Hold(why("lock"))).unwrap();
    let mut model = Model::start();
    actions.iter().for_each(|action| model.act(action));
    assert!(state.is_settled() && model.parked);
    let (state, actions) = State::Idle.on(Event::FoundWaiting).unwrap();
    assert_eq!((&state, &actions[..]), (&State::Waiting, &[][..]));

    let mut withdrawn = model.clone();
    let (idle, actions) = state.clone().on(Event::Withdrawn(why("newer"))).unwrap();
    actions.iter().for_each(|action| withdrawn.act(action));
    assert!(idle.is_idle() && withdrawn.old_runs && !withdrawn.parked);

    let (state, actions) = state.on(Event::Activate).unwrap();
    actions.iter().for_each(|action| model.act(action));
    assert_eq!(state, State::Recording);
    assert!(model.trial_on_disk && !model.parked && model.old_runs);
}

#[test]
fn the_first_reason_is_the_one_that_is_told() {
    let (state, _) = State::Trial.on(Event::Fault(why("first"))).unwrap();
    let (state, actions) = state.on(Event::Fault(why("second"))).unwrap();
    assert_eq!(actions, []);
    let (state, _) = state.on(Event::NewStopped).unwrap();
    let (_, actions) = state.on(Event::RestoredOld).unwrap();
    assert_eq!(
        actions,
        [Action::Report(Report::Ended(End::RolledBack, why("first")))]
    );
}

#[test]
fn a_second_activation_waits_for_the_first() {
    for state in [
        State::Recording,
        State::StoppingOld,
        State::Starting,
        State::HandingOver,
        State::Relieving,
        State::Trial,
    ] {
        let held = state.clone().on(Event::Hold(why("lock"))).unwrap_err();
        assert_eq!(held.state, state);
        let error = state.clone().on(Event::Activate).unwrap_err();
        assert_eq!(error.state, state);
    }
}
