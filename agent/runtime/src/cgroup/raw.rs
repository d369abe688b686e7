//! A cgroup's files by their own names, for callers whose limits are written in the kernel's words.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::{is_gone, write};
use super::{Cgroup, CgroupError, Controller, Place};

impl Cgroup {
    /// One folder for all controllers.
    pub fn is_unified(&self) -> bool {
        matches!(self.place, Place::V2(_))
    }

    /// The folder of a controller, which may not be there; None when v1 has no hierarchy of it.
    pub fn folder(&self, controller: Controller) -> Option<&Path> {
        match &self.place {
            Place::V1(folders) => folders
                .iter()
                .find(|folder| folder.controllers.contains(&controller))
                .map(|folder| folder.path.as_path()),
            Place::V2(folder) => Some(folder),
        }
    }

    /// One below it that is there; for some controllers only, unless there are none in the list.
    ///
    /// # Errors
    /// A path with `..`, or a folder that is missing.
    pub fn below(&self, path: &Path, only: &[Controller]) -> Result<Cgroup, CgroupError> {
        if path
            .components()
            .any(|part| !matches!(part, Component::Normal(_)))
        {
            return Err(CgroupError::BadName {
                name: path.display().to_string(),
            });
        }
        let moved = |folder: &Path| {
            let folder = folder.join(path);
            match std::fs::metadata(&folder) {
                Ok(_) => Ok(folder),
                Err(source) => Err(CgroupError::Io {
                    path: folder,
                    source,
                }),
            }
        };
        let place = match &self.place {
            Place::V2(folder) => Place::V2(moved(folder)?),
            Place::V1(folders) => {
                let mut all = folders.clone();
                for folder in &mut all {
                    // systemd follows a unit by its own folder, not by what is below it.
                    if folder.controllers.is_empty() {
                        continue;
                    }
                    if only.is_empty() || only.iter().any(|one| folder.controllers.contains(one)) {
                        folder.path = moved(&folder.path)?;
                    }
                }
                Place::V1(all)
            }
        };
        Ok(Cgroup { place })
    }

    /// All its folders: one for each hierarchy.
    pub fn folders(&self) -> Vec<&Path> {
        match &self.place {
            Place::V1(folders) => folders.iter().map(|folder| folder.path.as_path()).collect(),
            Place::V2(folder) => vec![folder],
        }
    }

    /// Where its processes are listed, and frozen where there is a freezer.
    pub fn freezer(&self) -> &Path {
        self.any_folder()
    }

    /// Those of all its hierarchies, by their v1 names; none on v2, where one folder is for all.
    pub fn controllers(&self) -> Vec<&'static str> {
        match &self.place {
            Place::V1(folders) => folders
                .iter()
                .flat_map(|folder| &folder.controllers)
                .map(|controller| controller.v1_name())
                .collect(),
            Place::V2(_) => Vec::new(),
        }
    }

    /// # Errors
    /// A name that is a path, a controller or a file that is not there, or what the kernel says to the value.
    pub fn write_raw(
        &self,
        controller: Controller,
        file: &str,
        value: &str,
    ) -> Result<(), CgroupError> {
        let path = self.raw_path(controller, file)?;
        match write(&path, value) {
            Err(CgroupError::Write { source, .. })
                if source.raw_os_error() == Some(libc::ENOENT) =>
            {
                Err(CgroupError::Unsupported {
                    limit: "that was asked for",
                    path,
                })
            }
            other => other,
        }
    }

    /// None when the controller or the file is not there.
    ///
    /// # Errors
    /// A name that is a path, or a file that cannot be read.
    pub fn read_raw(
        &self,
        controller: Controller,
        file: &str,
    ) -> Result<Option<String>, CgroupError> {
        let Ok(path) = self.raw_path(controller, file) else {
            return Ok(None);
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CgroupError::Io { path, source }),
        }
    }

    /// Frozen, or on the way to it.
    ///
    /// # Errors
    /// When the freezer cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        match &self.place {
            Place::V1(_) => self.says("freezer.state", |state| {
                matches!(state.trim(), "FROZEN" | "FREEZING")
            }),
            Place::V2(_) => self.says("cgroup.freeze", |state| state.trim() == "1"),
        }
    }

    /// No process moves any more.
    ///
    /// # Errors
    /// When the freezer cannot be read.
    pub fn is_at_rest(&self) -> Result<bool, CgroupError> {
        match &self.place {
            Place::V1(_) => self.says("freezer.state", |state| state.trim() == "FROZEN"),
            Place::V2(_) => self.says("cgroup.events", |events| events.contains("frozen 1")),
        }
    }

    fn says(&self, file: &str, what: impl Fn(&str) -> bool) -> Result<bool, CgroupError> {
        let text = self.read_raw(Controller::Freezer, file)?;
        Ok(text.is_some_and(|text| what(&text)))
    }

    fn raw_path(&self, controller: Controller, file: &str) -> Result<PathBuf, CgroupError> {
        if file.is_empty() || file.contains(['/', '\0']) {
            return Err(CgroupError::BadName { name: file.into() });
        }
        match self.folder(controller) {
            Some(folder) => Ok(folder.join(file)),
            None => Err(CgroupError::Unsupported {
                limit: "that was asked for",
                path: Path::new(controller.v1_name()).join(file),
            }),
        }
    }
}
