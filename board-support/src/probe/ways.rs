//! Ways into the world: links that are up, and default routes.

use crate::route::{self, DefaultRoute};
use crate::smallest::smallest;
use crate::text::{Text, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// How the board reaches the world, in the namespace that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ways {
    /// Links with hardware behind them that are up; some drivers of modems never say so.
    pub up: Vec<Text, 16>,
    /// Default routes, the one that is taken first.
    pub default_routes: Vec<DefaultRoute, 16>,
}

impl Ways {
    pub(super) fn read(root: &Path) -> Self {
        let folder = root.join("sys/class/net");
        let up = |link: &Text| {
            let link = folder.join(link.as_str());
            link.join("device").exists() && read_text(&link.join("operstate"), 16).trim() == "up"
        };
        let links = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let links = links.filter_map(|link| Text::try_from(link.file_name().to_str()?).ok());
        Self {
            up: smallest(links.filter(up)),
            default_routes: route::defaults(root),
        }
    }
}
