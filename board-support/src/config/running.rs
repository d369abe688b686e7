//! What a supervisor that runs has of its coracle.toml, for whoever looks at another one before it is taken.

use super::Config;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where agents are whose file says nothing else.
const RUN_DIR: &str = "/run/coracle";

impl Config {
    /// Where the supervisor writes [`Config::running_text`]; root's.
    pub fn running_file(&self) -> PathBuf {
        self.supervisor_dir().join("running")
    }

    /// What a reload does not change, a line each.
    pub fn running_text(&self) -> String {
        let line = |(key, value)| format!("{key} {value}\n");
        let keys = self.fixed_keys().into_iter().map(line);
        format!("file {:?}\n", self.file) + &keys.collect::<String>()
    }

    /// The first key that a reload would refuse, where the supervisor of this file runs and whoever asks may look there: root.
    pub fn running_key_that_differs(&self) -> Option<&'static str> {
        self.differs_from_one_in([&self.run_dir, Path::new(RUN_DIR)])
    }

    fn differs_from_one_in(&self, run_dirs: [&Path; 2]) -> Option<&'static str> {
        let text = run_dirs.iter().find_map(|run_dir| {
            let there = Self {
                run_dir: run_dir.to_path_buf(),
                ..self.clone()
            };
            let text = std::fs::read_to_string(there.running_file()).ok()?;
            UnixStream::connect(there.supervisor_socket()).ok()?;
            // Elsewhere than this file says, it has to be the supervisor of this file all the same.
            let file = format!("file {:?}", self.file);
            let is_own = **run_dir == self.run_dir || text.lines().next() == Some(&file);
            is_own.then_some(text)
        })?;
        let is_same = |(key, value): &(&str, String)| {
            let line = format!("{key} {value}");
            text.lines().any(|running| running == line)
        };
        let mut keys = self.fixed_keys().into_iter();
        keys.find(|key| !is_same(key)).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WrittenConfig;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_file_is_held_against_the_supervisor_that_runs() {
        let place = tempfile::tempdir().unwrap();
        let parse = |text: &str| {
            let written: WrittenConfig = toml::from_str(text).unwrap();
            Config::from_written(written, place.path())
        };
        let running = parse("[agent]\nrun_dir = \"run\"\n");
        let (here, elsewhere) = (place.path().join("run"), place.path().join("other"));
        let differs = |config: &Config| {
            let own = config.run_dir.clone();
            config.differs_from_one_in([&own, &here])
        };
        std::fs::create_dir_all(running.supervisor_dir()).unwrap();
        std::fs::write(running.running_file(), running.running_text()).unwrap();
        let other = parse("[agent]\nrun_dir = \"run\"\nuser = \"two\"\n");
        // What one left that has ended says nothing.
        assert_eq!(differs(&other), None);
        let _socket = UnixListener::bind(running.supervisor_socket()).unwrap();
        assert_eq!(differs(&running), None);
        assert_eq!(differs(&other), Some("agent.user"));
        for (text, key) in [
            ("[agent]\nrun_dir = \"other\"\n", "agent.run_dir"),
            (
                "[agent]\nrun_dir = \"run\"\n[network]\nbridge = \"x0\"\n",
                "network.bridge",
            ),
            (
                "[agent]\nrun_dir = \"run\"\n[network]\nsubnet = \"10.9.0.0/16\"\n",
                "network.subnet",
            ),
        ] {
            assert_eq!(differs(&parse(text)), Some(key));
        }
        // Another file is another agent's, unless it has the same run folder.
        let mut apart = parse("[agent]\nrun_dir = \"other\"\ninstance = \"two\"\n");
        apart.file = place.path().join("two.toml");
        assert_eq!(apart.run_dir, elsewhere);
        assert_eq!(differs(&apart), None);
    }
}
