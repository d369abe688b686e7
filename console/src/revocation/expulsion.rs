//! The end of revoked boards' connections at the broker: some at a time, each until it is done.

use crate::ca::Ca;
use crate::link::{Taken, Target, take_place};
use crate::store::Store;
use crate::tls;
use coracle_protocol::names::BoardId;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// A revoked board that still speaks (a broker that has no new list yet) is thrown out at most so often.
const AGAIN: Duration = Duration::from_secs(60);
/// So many at a time; each holds a connection to the broker.
const AT_ONCE: usize = 8;
/// After a failure, doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// In the place of the failures of a board that the broker would not let in: it is tried once more.
const ONCE_MORE: u32 = u32::MAX;

/// How to reach the broker in a board's place.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) store: Store,
    pub(super) ca: Arc<Ca>,
    pub(super) target: Target,
    pub(super) broker_ca: PathBuf,
}

/// Boards that are to be thrown out, and those that are being.
pub(super) struct Expulsion {
    way: Way,
    waiting: BTreeMap<BoardId, Turn>,
    under_way: JoinSet<Result<Option<Taken>, String>>,
    going: HashMap<Id, (BoardId, u32)>,
    done: HashMap<BoardId, Instant>,
}

struct Turn {
    from: Instant,
    failures: u32,
}

impl Turn {
    fn now() -> Self {
        Self {
            from: Instant::now(),
            failures: 0,
        }
    }
}

impl Expulsion {
    pub(super) fn new(way: Way) -> Self {
        Self {
            way,
            waiting: BTreeMap::new(),
            under_way: JoinSet::new(),
            going: HashMap::new(),
            done: HashMap::new(),
        }
    }

    /// It was revoked just now, or may have been while nobody looked.
    pub(super) fn add(&mut self, board: BoardId) {
        self.waiting.insert(board, Turn::now());
    }

    /// It was revoked, and was heard.
    pub(super) fn heard(&mut self, board: BoardId) {
        self.done.retain(|_, at| at.elapsed() < AGAIN);
        if !self.done.contains_key(&board) && !self.is_going(&board) {
            let turn = self.waiting.entry(board).or_insert_with(Turn::now);
            if turn.failures == ONCE_MORE {
                turn.from = Instant::now();
            }
        }
    }

    fn is_going(&self, board: &BoardId) -> bool {
        self.going.values().any(|(going, _)| going == board)
    }

    /// Whose turn comes next, and when.
    fn next(&self) -> Option<(BoardId, Instant)> {
        let free = self
            .waiting
            .iter()
            .filter(|(board, _)| !self.is_going(board));
        free.map(|(board, turn)| (board.clone(), turn.from))
            .min_by_key(|(_, from)| *from)
    }

    /// Goes on until one has ended or is begun. May be dropped at any moment: nothing is forgotten.
    pub(super) async fn progress(&mut self) {
        let room = self.under_way.len() < AT_ONCE;
        let next = self.next().filter(|_| room);
        let turn = async {
            match next {
                Some((board, from)) => {
                    tokio::time::sleep_until(from).await;
                    board
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.under_way.join_next_with_id() => self.note(ended),
            board = turn => self.begin(board),
        }
    }

    fn begin(&mut self, board: BoardId) {
        if let Some(turn) = self.waiting.remove(&board) {
            let work = throw_out(self.way.clone(), board.clone());
            let id = self.under_way.spawn(work).id();
            self.going.insert(id, (board, turn.failures));
        }
    }

    fn note(&mut self, ended: Result<(Id, Result<Option<Taken>, String>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error.to_string())),
        };
        let Some((board, failures)) = self.going.remove(&id) else {
            return;
        };
        match result {
            Ok(Some(taken)) => {
                match taken {
                    Taken::Place => {
                        tracing::info!(%board, "revoked: its connection to the broker is ended");
                    }
                    // It may also be that the broker takes no certificate of the console's for that name, or was restarting.
                    Taken::NoSuchUser if failures < ONCE_MORE => {
                        tracing::warn!(
                            %board, again_in = ?LONGEST_PAUSE,
                            "revoked: the broker lets nobody in under its name, so that a connection of before may stand"
                        );
                        self.waiting.entry(board.clone()).or_insert(Turn {
                            from: Instant::now() + LONGEST_PAUSE,
                            failures: ONCE_MORE,
                        });
                    }
                    Taken::NoSuchUser => {
                        tracing::info!(%board, "revoked: the broker still lets nobody in under its name");
                    }
                }
                self.done.insert(board, Instant::now());
            }
            // Somebody has taken it in again meanwhile.
            Ok(None) => {}
            Err(error) => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << failures.min(16))
                    .min(LONGEST_PAUSE);
                tracing::warn!(
                    %board, error, again_in = ?pause,
                    "revoked, and its connection to the broker may stand"
                );
                self.waiting.entry(board).or_insert(Turn {
                    from: Instant::now() + pause,
                    failures: failures.saturating_add(1),
                });
            }
        }
    }
}

/// What came of it; `None`: the board is not revoked.
async fn throw_out(way: Way, board: BoardId) -> Result<Option<Taken>, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let revoked = way.store.is_revoked(&board).await;
    if !revoked.map_err(|e| text(&e))? {
        return Ok(None);
    }
    let (ca, name) = (way.ca.clone(), board.clone());
    let stand_in = tokio::task::spawn_blocking(move || ca.stand_in(&name)).await;
    let (certificate, key) = stand_in.map_err(|e| text(&e))?.map_err(|e| text(&e))?;
    let tls = tls::client_of(&certificate, &key, &way.broker_ca).map_err(|e| text(&e))?;
    let done = take_place(&way.target, board.as_str(), tls).await;
    done.map(Some).map_err(|e| text(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_failed_is_tried_again_and_what_is_over_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db")).await.unwrap();
        let life = Duration::from_secs(60);
        let ca = Arc::new(Ca::open(&dir.path().join("pki"), "localhost", life).unwrap());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let boards: Vec<BoardId> = (0..20)
            .map(|n| BoardId::new(&format!("acme.b{n}")).unwrap())
            .collect();
        for board in &boards {
            store
                .add_enrolment(board, board.as_str(), 1, 2)
                .await
                .unwrap();
            store.revoke(board, "", 1).await.unwrap();
        }
        let mut expulsion = Expulsion::new(Way {
            store,
            broker_ca: ca.files().certificate.clone(),
            ca,
            target: Target {
                host: "127.0.0.1".into(),
                port,
                client_id: "console".into(),
            },
        });
        for board in &boards {
            expulsion.add(board.clone());
        }
        // Heard, and on the list already.
        expulsion.heard(boards[0].clone());
        let unknown = BoardId::new("acme.free").unwrap();
        expulsion.add(unknown.clone());
        let end = Instant::now() + Duration::from_secs(20);
        while expulsion
            .waiting
            .values()
            .filter(|turn| turn.failures > 0)
            .count()
            < boards.len()
        {
            assert!(expulsion.under_way.len() <= AT_ONCE);
            let step = expulsion.progress();
            tokio::time::timeout_at(end, step)
                .await
                .expect("all fail, and wait for their next turn");
        }
        assert!(expulsion.done.is_empty(), "a failure counts as done");
        assert!(!expulsion.waiting.contains_key(&unknown));
        // One that is heard does not jump its pause.
        expulsion.heard(boards[0].clone());
        assert!(expulsion.waiting[&boards[0]].failures > 0);
    }

    #[tokio::test]
    async fn a_board_that_the_broker_does_not_let_in_is_tried_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let life = Duration::from_secs(60);
        let ca = Arc::new(Ca::open(&dir.path().join("pki"), "localhost", life).unwrap());
        let mut expulsion = Expulsion::new(Way {
            store: Store::open(&dir.path().join("db")).await.unwrap(),
            broker_ca: ca.files().certificate.clone(),
            ca,
            target: Target {
                host: "127.0.0.1".into(),
                port: 1,
                client_id: "console".into(),
            },
        });
        let board = BoardId::new("acme.b1").unwrap();
        for (failures, again) in [(3, true), (ONCE_MORE, false)] {
            let work = expulsion
                .under_way
                .spawn(async { Ok(Some(Taken::NoSuchUser)) });
            let id = work.id();
            expulsion.waiting.remove(&board);
            expulsion.going.insert(id, (board.clone(), failures));
            expulsion.progress().await;
            let turn = expulsion.waiting.get(&board);
            assert_eq!(turn.is_some(), again);
            let soon = Instant::now() + LONGEST_PAUSE - life;
            assert!(turn.is_none_or(|turn| turn.failures == ONCE_MORE && turn.from > soon));
            // Heard within a minute: it has had its turn.
            expulsion.heard(board.clone());
            assert_eq!(expulsion.waiting.contains_key(&board), again);
        }
        // Heard later, it does not wait the longest pause.
        expulsion.done.clear();
        expulsion.add(board.clone());
        let turn = expulsion.waiting.get_mut(&board).unwrap();
        (turn.from, turn.failures) = (Instant::now() + LONGEST_PAUSE, ONCE_MORE);
        expulsion.heard(board.clone());
        assert!(expulsion.waiting[&board].from <= Instant::now());
    }
}
