//! Ports of this machine that a board and its console have: others for each board, so that two run side by side.

use super::fleet::APPS;
use super::machine::Forward;
use anyhow::{Result, ensure};
use coracle_tests::console::Ports;
use coracle_tests::measure::get;

#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    pub console: Ports,
    /// Where the two apps answer on this machine.
    pub apps: [Forward; 2],
}

impl Addresses {
    /// Of the board with this number: nine have room.
    pub fn of(number: u16) -> Addresses {
        let app = |at: usize, here| Forward {
            here,
            there: APPS[at].1,
        };
        Addresses {
            console: Ports {
                operator: 18180 + number,
                board: 18543 + number,
                mqtt: 18983 + number,
            },
            apps: [app(0, 18190 + 2 * number), app(1, 18191 + 2 * number)],
        }
    }

    /// Both apps answer as `version`.
    pub fn answer(&self, version: &str) -> Result<()> {
        for forward in self.apps {
            let (status, body) = get(&format!("http://127.0.0.1:{}/", forward.here))?;
            let wanted = format!("hello from version {version}");
            ensure!(
                status == 200 && body.trim() == wanted,
                "port {} answers {status} `{}`, not `{wanted}`",
                forward.there,
                body.trim()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shipped::SHIPPED;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_boards_have_a_port_in_common() {
        let all: Vec<u16> = (0..SHIPPED.len() as u16)
            .flat_map(|number| {
                let Addresses { console, apps } = Addresses::of(number);
                let console = [console.operator, console.board, console.mqtt];
                console.into_iter().chain(apps.map(|app| app.here))
            })
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
