//! Judges whether each close code is true. A client obeys the code: one that is told that a newer connection exists,
//! and has none, stays away for good. The checker judges the codes that follow from the history (44xx, 4301); this
//! module judges those that a fault may cause, and all of idle devices.

use std::collections::HashMap;

use serde::Serialize;

use crate::history::{Event, Phase, What};
use crate::plan::Kind;

/// A socket closed by the server.
#[derive(Debug, Clone, Serialize)]
pub struct Close {
    /// The time, in microseconds of the run.
    pub at: u64,
    /// The user.
    pub device: String,
    /// The device.
    pub user: String,
    /// The socket; 0 for idle devices, which are in no history.
    pub socket: u64,
    /// The edge.
    pub edge: usize,
    /// The code.
    pub code: u16,
    /// The reason.
    pub reason: String,
    /// When the device last had its own reason not to acknowledge.
    pub idle: Option<u64>,
}

/// How long something may still cause a close after its end: a lease, an acknowledgement's time-out, and the time in
/// which an edge detects it.
const ECHO: u64 = 20_000_000;

/// A period; without an end it continues.
type Stretch = (u64, Option<u64>);

/// The facts of a run.
struct Reasons<'h> {
    faults: Vec<(Kind, Stretch)>,
    mains: HashMap<&'h str, Vec<&'h str>>,
    connected: HashMap<&'h str, Vec<Stretch>>,
}

/// Returns the closes that weren't true, in words.
pub fn untrue(closes: &[Close], events: &[Event]) -> Vec<String> {
    let reasons = Reasons::of(events);
    let wrong = closes.iter().filter_map(|close| {
        let Close { at, device, code, reason, edge, socket, .. } = close;
        let why = reasons.against(close)?;
        Some(format!(
            "at {at}: {device}, socket {socket} on edge {edge}, was closed {code} {reason:?}: {why}"
        ))
    });
    wrong.collect()
}

impl<'h> Reasons<'h> {
    fn of(events: &'h [Event]) -> Reasons<'h> {
        let mut reasons = Reasons { faults: Vec::new(), mains: HashMap::new(), connected: HashMap::new() };
        for event in events {
            let at = event.at;
            match &event.what {
                What::Fault { name, phase } => reasons.fault(at, name, *phase),
                What::Registering { user, device, main: true } => {
                    reasons.mains.entry(user).or_default().push(device);
                }
                What::Welcome { device, .. } => reasons.connected.entry(device).or_default().push((at, None)),
                What::Closed { device, .. } => {
                    if let Some((_, end @ None)) =
                        reasons.connected.get_mut(device.as_str()).and_then(|stretches| stretches.last_mut())
                    {
                        *end = Some(at);
                    }
                }
                _ => {}
            }
        }
        reasons
    }

    fn fault(&mut self, at: u64, name: &str, phase: Phase) {
        let Ok(kind) = name.parse::<Kind>() else { return };
        match phase {
            Phase::Begun => self.faults.push((kind, (at, None))),
            Phase::Healed => {
                let open = self.faults.iter_mut().rev().find(|(of, (_, end))| *of == kind && end.is_none());
                if let Some((_, (_, end))) = open {
                    *end = Some(at);
                }
            }
        }
    }

    /// Returns whether a fault of such a kind was active then, or shortly before.
    fn was(&self, at: u64, of: impl Fn(Kind) -> bool) -> bool {
        self.faults.iter().any(|(kind, (begun, healed))| {
            of(*kind) && *begun <= at && healed.is_none_or(|healed| at <= healed + ECHO)
        })
    }

    /// Returns whether a device was connected for long enough without a break.
    fn steady(&self, device: &str, at: u64) -> bool {
        let stretches = self.connected.get(device).map(Vec::as_slice).unwrap_or_default();
        let from = at.saturating_sub(ECHO);
        stretches.iter().any(|(begun, end)| *begun <= from && end.is_none_or(|end| end > at))
    }

    /// Returns the objection to the code; none if it may be true.
    fn against(&self, close: &Close) -> Option<&'static str> {
        let Close { at, user, socket, code, idle, .. } = close;
        if *socket != 0 && (*code == 4301 || *code >= 4400) {
            return None;
        }
        let is_true = match code {
            4300 => self.was(*at, |kind| kind == Kind::EdgeStop),
            4303 => {
                let mains = self.mains.get(user.as_str()).map(Vec::as_slice).unwrap_or_default();
                // A main whose edge has lost its hold on it may not know that yet. But a clock is no reason.
                let lost = |kind: Kind| kind.parts() && kind != Kind::RedisClock;
                !mains.iter().any(|main| self.steady(main, *at)) || self.was(*at, lost)
            }
            4304 => self.was(*at, Kind::parts),
            4305 => idle.is_some_and(|idle| at - idle < ECHO) || self.was(*at, Kind::parts),
            _ => false,
        };
        let why = match code {
            4300 => "no edge was stopped",
            4301 => "it took everything that came",
            4302 => "it said something every second",
            4303 => "its main was connected all the time",
            4304 => "nothing was wrong with any store, link or edge",
            4305 => "it acknowledged, and nothing was wrong with any store, link or edge",
            4409 => "it had no newer connection",
            _ => "it did nothing of the kind",
        };
        (!is_true).then_some(why)
    }
}
