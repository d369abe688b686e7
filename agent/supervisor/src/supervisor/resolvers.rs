//! A resolver for each network that has one: started with it, told of changes, started again when it dies.

use super::Supervisor;
use crate::resolver::{self, Resolver};
use coracle_network::resolver::Zone;
use coracle_network::{NetworkConfig, Networks};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two looks at the board's resolv.conf, which DHCP writes anew. Only while there is a resolver.
const LOOK: Duration = Duration::from_secs(5);
/// Before a dead one is started again: doubled each time, and forgotten after a long run.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const LONG_RUN: Duration = Duration::from_secs(60);

/// All of them, by their networks' names.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    all: BTreeMap<String, Kept>,
    /// The board's own, as last seen.
    board: Vec<IpAddr>,
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Kept {
    config: NetworkConfig,
    running: Option<Resolver>,
    told: Option<Zone>,
    since: Instant,
    /// Deaths and failed starts without a long run between them.
    in_a_row: u32,
    start_at: Option<Instant>,
    /// It had its port, so that apps may be sent to it.
    had_its_port: bool,
}

impl Kept {
    fn new(config: NetworkConfig, now: Instant) -> Self {
        Self {
            config,
            running: None,
            told: None,
            since: now,
            in_a_row: 0,
            start_at: Some(now),
            had_its_port: false,
        }
    }

    fn down(&mut self, now: Instant) {
        if now - self.since >= LONG_RUN {
            self.in_a_row = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.in_a_row.min(16));
        self.in_a_row += 1;
        self.running = None;
        self.told = None;
        self.start_at = Some(now + wait.min(LONGEST_WAIT));
    }

    fn start_when_due(&mut self, now: Instant, empty_root: &std::path::Path) -> bool {
        if self.start_at.is_none_or(|at| at > now) {
            return false;
        }
        self.start_at = None;
        self.since = now;
        match resolver::start(&self.config, empty_root) {
            Ok(running) => {
                tracing::debug!(
                    bridge = self.config.bridge,
                    pid = running.pid(),
                    "a resolver runs"
                );
                self.running = Some(running);
                self.had_its_port = true;
                true
            }
            Err(fault) => {
                self.down(now);
                tracing::error!(
                    bridge = self.config.bridge,
                    fault,
                    "no resolver on this network"
                );
                false
            }
        }
    }
}

impl Resolvers {
    /// Whether this child was one of them.
    pub(super) fn ended(&mut self, pid: i32) -> bool {
        let is = |kept: &&mut Kept| kept.running.as_ref().is_some_and(|r| r.pid() == pid);
        match self.all.values_mut().find(is) {
            Some(kept) => {
                kept.down(Instant::now());
                true
            }
            None => false,
        }
    }

    /// Networks whose gateway can be asked, now or in a moment.
    pub(super) fn answering(&self) -> Vec<String> {
        let all = self.all.iter().filter(|(_, kept)| kept.had_its_port);
        all.map(|(network, _)| network.clone()).collect()
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let starts = self.all.values().filter_map(|kept| kept.start_at);
        starts.chain(self.look_at).min()
    }
}

fn with_resolver(networks: &Networks) -> BTreeMap<String, NetworkConfig> {
    let list = networks.list().iter().filter(|network| network.resolver);
    list.map(|network| (network.name.clone(), network.config()))
        .collect()
}

impl Supervisor {
    /// One for each network that is to have one, and no other.
    pub(super) fn arrange_resolvers(&mut self) {
        let wanted = match &self.bridge.0 {
            Ok(networks) => with_resolver(networks),
            Err(_) => return,
        };
        let now = Instant::now();
        let resolvers = &mut self.resolvers;
        for (name, kept) in std::mem::take(&mut resolvers.all) {
            if wanted.get(&name) == Some(&kept.config) {
                resolvers.all.insert(name, kept);
            } else if let Some(running) = kept.running {
                running.end();
            }
        }
        for (name, config) in wanted {
            resolvers
                .all
                .entry(name)
                .or_insert_with(|| Kept::new(config, now));
        }
        resolvers.look_at = (!resolvers.all.is_empty()).then_some(now);
        self.tend_resolvers(now);
    }

    /// Starts those that are due, and looks whether the board has other resolvers by now.
    pub(super) fn tend_resolvers(&mut self, now: Instant) {
        let mut news = false;
        if self.resolvers.look_at.is_some_and(|at| at <= now) {
            self.resolvers.look_at = Some(now + LOOK);
            let board = self.boards_resolvers();
            if board != self.resolvers.board {
                tracing::info!(?board, "the board's resolvers");
                self.resolvers.board = board;
                news = true;
            }
        }
        for kept in self.resolvers.all.values_mut() {
            news |= kept.start_when_due(now, &self.empty_root);
        }
        if news {
            self.tell_resolvers();
        }
    }

    /// Each learns what has changed for it.
    pub(super) fn tell_resolvers(&mut self) {
        let board = &self.resolvers.board;
        let zone = |(name, kept): (&String, &Kept)| {
            let zone = self.zone(name, kept.config.internal, board);
            (name.clone(), zone)
        };
        let zones: Vec<_> = self.resolvers.all.iter().map(zone).collect();
        for (name, zone) in zones {
            let Some(kept) = self.resolvers.all.get_mut(&name) else {
                continue;
            };
            if let Some(running) = &mut kept.running
                && kept.told.as_ref() != Some(&zone)
            {
                running.tell(&zone);
                kept.told = Some(zone);
            }
        }
    }
}
