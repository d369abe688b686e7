//! What a board itself uses, and what to see of it at a glance.

use super::layout::{ago, bytes};
use crate::marks;
use crate::store::Board;
use coracle_protocol::report::{BoardUse, LinkKind};
use maud::{Markup, html};

/// Its marks, in the list of boards; those of a board that is not there are of some other day.
pub fn marks(board: &Board, used: Option<&(BoardUse, u64)>) -> Markup {
    let marks = used.map_or_else(Vec::new, |(used, _)| marks::of(used));
    html! {
        @if board.presence.online {
            @for mark in marks { br; span.bad { (mark.words()) } }
        }
    }
}

/// All of it, on the board's page.
pub fn facts(used: &BoardUse, at: u64, cpus: Option<u32>) -> Markup {
    let marks = marks::of(used);
    html! {
        h2 { "Board" }
        p.quiet { "as of " (ago(at)) }
        @if !marks.is_empty() {
            p.reason {
                @for (index, mark) in marks.iter().enumerate() {
                    @if index > 0 { ", " }
                    span.bad { (mark.words()) }
                }
            }
        }
        dl.facts {
            @if let (Some(used), Some(total)) = (used.memory_used_bytes, used.memory_total_bytes) {
                (fact("Memory in use", &share(used, total)))
            }
            @if let Some(agent) = used.agent_memory_bytes {
                (fact("Of it the agent", &bytes(agent)))
            }
            @if let Some(load) = used.load_hundredths {
                (fact("Load", &self::load(load, cpus)))
            }
            @if let Some(at) = used.millidegrees {
                (fact("Temperature", &temperature(at, used)))
            }
            @if let (Some(free), Some(total)) = (used.state_free_bytes, used.state_total_bytes) {
                (fact("Disk free", &share(free, total)))
            }
            @if let (Some(free), Some(total)) = (used.images_free_bytes, used.images_total_bytes) {
                (fact("Disk free for images", &share(free, total)))
            }
            @if let Some(seconds) = used.uptime_seconds { (fact("Up for", &span(seconds))) }
            @if let Some(link) = &used.link { (fact("Link", &link_of(link, used.link_kind))) }
        }
    }
}

fn fact(title: &str, value: &str) -> Markup {
    html! { div { dt { (title) } dd { (value) } } }
}

fn share(part: u64, of: u64) -> String {
    format!("{} of {}", bytes(part), bytes(of))
}

fn load(hundredths: u64, cpus: Option<u32>) -> String {
    let load = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    match cpus {
        Some(1) => format!("{load} on 1 core"),
        Some(cpus) => format!("{load} on {cpus} cores"),
        None => load,
    }
}

fn temperature(millidegrees: i32, used: &BoardUse) -> String {
    let mut text = format!("{:.1} °C", f64::from(millidegrees) / 1000.0);
    if let Some(zone) = &used.zone {
        text += &format!(" ({zone})");
    }
    if let Some(limit) = used.throttle_celsius {
        text += &format!(", apps are slowed from {limit} °C");
    }
    text
}

fn span(seconds: u64) -> String {
    match seconds {
        0..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn link_of(name: &str, kind: Option<LinkKind>) -> String {
    let kind = match kind {
        Some(LinkKind::Ethernet) => "Ethernet",
        Some(LinkKind::Wifi) => "Wi-Fi",
        Some(LinkKind::Cellular) => "cellular",
        Some(LinkKind::Other) | None => return name.to_owned(),
    };
    format!("{kind} ({name})")
}
