//! Where things are.

use super::Config;
use std::path::PathBuf;

impl Config {
    /// The trust root that the board was provisioned with: `root.json` beside coracle.toml.
    pub fn root_file(&self) -> PathBuf {
        self.config_dir.join("root.json")
    }
    /// Where the console of the fleet is that this board was made for: `fleet.json` beside coracle.toml.
    pub fn fleet_file(&self) -> PathBuf {
        self.config_dir.join("fleet.json")
    }
    /// What the board's maker gave it to show who it is: `manufacturing.crt` and `manufacturing.key` beside coracle.toml.
    pub fn manufacturing(&self) -> [PathBuf; 2] {
        ["manufacturing.crt", "manufacturing.key"].map(|name| self.config_dir.join(name))
    }
    /// Board profiles: `boards/` beside coracle.toml.
    pub fn profiles_dir(&self) -> PathBuf {
        self.config_dir.join("boards")
    }
    /// What this one board changes about its profile, or with a `name` a profile of its own.
    pub fn board_override_file(&self) -> PathBuf {
        self.config_dir.join("board.toml")
    }

    /// OCI layout of what was downloaded; written by coracled.
    pub fn store_dir(&self) -> PathBuf {
        self.state_dir.join("store")
    }
    /// Key, certificate, enrolment; coracled's, mode 0700.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }
    /// Reports that wait for the link; coracled's.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }
    /// Unpacked layers by diff_id; root's, never changed.
    pub fn layers_dir(&self) -> PathBuf {
        self.state_dir.join("layers")
    }
    /// Layers that are being unpacked; root's.
    pub fn staging_dir(&self) -> PathBuf {
        self.state_dir.join("staging")
    }
    /// The current root and the counters; root's.
    pub fn trust_dir(&self) -> PathBuf {
        self.state_dir.join("trust")
    }
    /// There while the board is no fleet's any more; root's, for all to read.
    pub fn decommissioned_file(&self) -> PathBuf {
        self.state_dir.join("decommissioned")
    }
    /// The agent's own programs, where releases bring them; root's.
    pub fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }
    /// Journal and sets; root's.
    pub fn deployments_dir(&self) -> PathBuf {
        self.state_dir.join("deployments")
    }
    /// One folder per app, with `upper`, `work` and `merged`; root's.
    pub fn containers_dir(&self) -> PathBuf {
        self.state_dir.join("containers")
    }
    /// Which app has which of the board's ids; root's.
    pub fn ids_file(&self) -> PathBuf {
        self.state_dir.join("ids.json")
    }
    /// One folder per volume; root's.
    pub fn volumes_dir(&self) -> PathBuf {
        self.state_dir.join("volumes")
    }
    /// One folder per app; root's, readable by coracled's group.
    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// Where the supervisor listens; root:coracle 0660.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run_dir.join("supervisor.sock")
    }
    /// What root alone looks into, while it runs.
    pub fn supervisor_dir(&self) -> PathBuf {
        self.run_dir.join("supervisor")
    }
    /// Where coracled serves the Docker Engine API.
    pub fn docker_socket(&self) -> PathBuf {
        self.run_dir.join("docker.sock")
    }
}
