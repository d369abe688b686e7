//! A resolver for each network that has one: started with it, told of changes, started again when it dies; and heard, when
//! an app with a list of places to go is about to be told where a name is.

use super::{Supervisor, beat};
use crate::apps::{AppRun, whole};
use crate::resolver::{self, Resolver, Word, Words};
use coracle_network::resolver::{Said, Told, Zone};
use coracle_network::{DEFAULT_NETWORK, NetworkConfig, Networks};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Between two looks at the board's resolv.conf, which DHCP writes anew. Only while there is a resolver.
const LOOK: Duration = Duration::from_secs(5);
/// Between two lines of the log about what they say.
const LOG_EVERY: Duration = Duration::from_secs(1);
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
    logged_at: Option<Instant>,
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

    fn start_when_due(
        &mut self,
        now: Instant,
        empty_root: &std::path::Path,
        words: &Words,
    ) -> bool {
        if self.start_at.is_none_or(|at| at > now) {
            return false;
        }
        self.start_at = None;
        self.since = now;
        match resolver::start(&self.config, empty_root, words.clone()) {
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

    /// Whether what one of them says may be a line of the log: an app can make it say much.
    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        let soon = self.logged_at.is_some_and(|at| now < at + LOG_EVERY);
        if !soon {
            self.logged_at = Some(now);
        }
        !soon
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let starts = self.all.values().filter_map(|kept| kept.start_at);
        starts.chain(self.look_at).min()
    }
}

/// Networks that are to have one: of the board's own, only while apps of the set are on it.
fn with_resolver(networks: &Networks, apps: &[AppRun]) -> BTreeMap<String, NetworkConfig> {
    let list = networks.list().iter().filter(|network| network.resolver);
    let mut all = BTreeMap::new();
    all.extend(list.map(|network| (network.name.clone(), network.config())));
    let on_default = |app: &AppRun| {
        let places = app.plan.as_ref().map_or(&[][..], |plan| &plan.places);
        places.iter().any(|place| place.network == DEFAULT_NETWORK)
    };
    if apps.iter().any(on_default)
        && let Ok(default) = networks.inspect(DEFAULT_NETWORK)
        && default.config().resolver
    {
        all.insert(DEFAULT_NETWORK.to_owned(), default.config().clone());
    }
    all
}

impl Supervisor {
    /// One for each network that is to have one, and no other.
    pub(super) fn arrange_resolvers(&mut self) {
        let wanted = match &self.bridge.0 {
            Ok(networks) => with_resolver(networks, &self.apps),
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
            self.resolvers.look_at = Some(beat::next(now, LOOK));
            let board = self.boards_resolvers();
            if board != self.resolvers.board {
                tracing::info!(?board, "the board's resolvers");
                self.resolvers.board = board;
                news = true;
            }
        }
        for kept in self.resolvers.all.values_mut() {
            news |= kept.start_when_due(now, &self.empty_root, &self.resolver_says);
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
                let told = running.tell(&Told::Zone(zone.clone()));
                kept.told = told.then_some(zone);
            }
        }
    }
}

impl Supervisor {
    /// A resolver's word, which may be anything: it has read what containers and the world sent it.
    pub(super) async fn hear_resolver(&mut self, word: Word) {
        let is = |kept: &Kept| kept.running.as_ref().is_some_and(|r| r.pid() == word.pid);
        let Some(network) = self.resolvers.all.iter().find(|(_, kept)| is(kept)) else {
            return;
        };
        let network = network.0.clone();
        let answer = match word.said {
            None => {
                tracing::error!(
                    network,
                    pid = word.pid,
                    "a resolver talks nonsense and is ended"
                );
                None
            }
            Some(Said::Forbidden { client, name }) => {
                if !self.resolvers.may_log() {
                    return;
                }
                let app = self.app_at(&network, client.into());
                tracing::warn!(
                    network,
                    app,
                    name,
                    "an app asks for a name that is not on its egress list"
                );
                return;
            }
            Some(Said::Found {
                id,
                client,
                name,
                ttl_seconds,
                addresses,
            }) => {
                let Ok(networks) = &mut self.bridge.0 else {
                    return;
                };
                let ttl = Duration::from_secs(ttl_seconds.into());
                let admitted = networks
                    .admit_answer(&network, client, &name, &addresses, ttl)
                    .await;
                let addresses = admitted.unwrap_or_else(|error| {
                    if self.resolvers.may_log() {
                        tracing::warn!(network, fault = whole(&error), "nothing is opened");
                    }
                    Vec::new()
                });
                Some(Told::Admitted { id, addresses })
            }
        };
        let kept = self.resolvers.all.get_mut(&network);
        match (kept.and_then(|kept| kept.running.as_mut()), answer) {
            (Some(running), Some(answer)) => drop(running.tell(&answer)),
            (Some(running), None) => running.kill(),
            (None, _) => {}
        }
    }

    fn app_at(&self, network: &str, ip: IpAddr) -> String {
        let at = |app: &&AppRun| {
            let places = app
                .process
                .as_ref()
                .map_or(&[][..], |process| &process.places);
            let mut here = places.iter().filter(|place| place.network == network);
            here.any(|place| IpAddr::V4(place.endpoint.ip) == ip)
        };
        let app = self.apps.iter().find(at);
        app.map_or_else(|| ip.to_string(), |app| app.name().to_string())
    }
}
