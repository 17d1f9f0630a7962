//! The end: what each device has, laid side by side.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    cast::{Person, Role, Room},
    day::{Day, millis},
    text::{cell, wrap},
};
use crate::cli::Failure;

/// Compares all devices and prints the result; true: all agree and nothing broke the contract.
///
/// # Errors
/// When it can't be written.
pub async fn tell(day: &Day<'_>, took: Duration) -> Result<bool, Failure> {
    let screen = day.screen;
    let (differences, faults) = (differences(day), faults(day));
    let agree = differences.is_empty() && faults.is_empty();
    let figures = Figures::of(day).await;

    screen.chapter("", "Do all devices agree?")?;
    table(day)?;
    screen.plain("")?;
    let heads: Vec<String> =
        Room::ALL.iter().map(|room| format!("{} #{}", room.name(), day.head(*room))).collect();
    let heads = heads.join(", ");
    let living = Role::ALL.iter().filter(|role| day.cast(**role).is_some() && !day.ended(**role)).count();
    if agree {
        screen.plain(&format!("  {}", screen.good(&format!("✓ all {living} devices agree at {heads}"))))?;
    } else {
        screen.plain(&format!("  {}", screen.bad("✗ not as it should be:")))?;
        for line in differences.iter().chain(&faults) {
            screen.plain(&format!("    {line}"))?;
        }
    }
    for line in figures.lines(day) {
        for (i, line) in wrap(&line, screen.width().saturating_sub(6)).iter().enumerate() {
            screen.plain(&screen.dim(&format!("  {}{line}", if i == 0 { "" } else { "  " })))?;
        }
    }
    screen.event("summary", json_summary(day, agree, &differences, &faults, &figures, took))?;
    Ok(agree)
}

/// Each device against the longest copy, message by message; and the read offsets of each person's devices.
fn differences(day: &Day<'_>) -> Vec<String> {
    let mut out = Vec::new();
    for room in Room::ALL {
        let (head, chat) = (day.head(room), day.chat(room));
        for seq in 1..=head {
            let mut first: Option<(Role, [u8; 32])> = None;
            for device in living(day) {
                let hash = device.memory().chat(chat).and_then(|copy| copy.hash(seq));
                match (hash, first) {
                    (None, _) => {
                        out.push(format!("{} lacks #{seq} of the {}", device.role.name(), room.name()))
                    }
                    (Some(hash), Some((other, expected))) if hash != expected => {
                        let (one, other) = (device.role.name(), other.name());
                        out.push(format!("#{seq} of the {} differs between {one} and {other}", room.name()));
                    }
                    (Some(hash), None) => first = Some((device.role, hash)),
                    _ => {}
                }
            }
        }
        for person in [Person::Alice, Person::Bob] {
            for device in living(day).filter(|device| device.role.person() == person) {
                let read = device.memory().chat(chat).map_or(0, |copy| copy.read);
                if read != head {
                    let name = device.role.name();
                    out.push(format!(
                        "{name} holds the {} for read up to #{read}; it is #{head}",
                        room.name()
                    ));
                }
            }
        }
    }
    out
}

fn living<'a>(day: &'a Day<'_>) -> impl Iterator<Item = &'a super::device::Device> {
    Role::ALL.into_iter().filter(|role| !day.ended(*role)).filter_map(|role| day.cast(role))
}

fn faults(day: &Day<'_>) -> Vec<String> {
    let seen = Role::ALL.into_iter().filter_map(|role| day.cast(role)).flat_map(|device| {
        let faults = device.memory().faults.clone();
        faults.into_iter().map(|fault| format!("{} saw: {fault}", device.role.name()))
    });
    day.faults.iter().cloned().chain(seen).collect()
}

fn table(day: &Day<'_>) -> Result<(), Failure> {
    let screen = day.screen;
    let head = format!(
        "  {:<13}{:>7}{:>10}{:>7}{:>12}{:>10}   {}",
        "device", "live", "borrowed", "again", "direct", "Studio", "read"
    );
    screen.plain(&screen.dim(&head))?;
    for device in Role::ALL.into_iter().filter_map(|role| day.cast(role)) {
        let memory = device.memory();
        let of = |room: Room| memory.chat(day.chat(room)).map_or((0, 0), |copy| (copy.highest(), copy.read));
        let [(direct, read), (studio, also)] = [of(Room::Direct), of(Room::Studio)];
        let state = if day.ended(device.role) { "  (ended)".to_owned() } else { String::new() };
        let line = format!(
            "{:>7}{:>10}{:>7}{:>12}{:>10}   #{read}, #{also}{state}",
            memory.live,
            memory.borrowed,
            memory.repeated,
            format!("#1-#{direct}"),
            format!("#1-#{studio}"),
        );
        screen.plain(&format!("  {}{line}", screen.in_colour(device.role, &cell(device.role.name(), 13))))?;
    }
    Ok(())
}

struct Figures {
    messages: u64,
    deliveries: Option<(u64, u64)>,
    waits: Vec<Duration>,
}

impl Figures {
    async fn of(day: &Day<'_>) -> Self {
        let sample = |source: &str| format!("keepstep_deliveries_total{{source=\"{source}\"}}");
        let (queue, log) = (day.stage.metric(&sample("nsq")).await, day.stage.metric(&sample("log")).await);
        let mut waits: Vec<Duration> = Vec::new();
        for device in Role::ALL.into_iter().filter_map(|role| day.cast(role)) {
            waits.extend(device.memory().waits.iter());
        }
        waits.sort_unstable();
        Self {
            messages: Room::ALL.iter().map(|room| day.head(*room)).sum(),
            deliveries: queue.zip(log),
            waits,
        }
    }

    fn median(&self) -> Duration {
        self.waits.get(self.waits.len() / 2).copied().unwrap_or_default()
    }

    fn slowest(&self) -> Duration {
        self.waits.last().copied().unwrap_or_default()
    }

    fn lines(&self, day: &Day<'_>) -> Vec<String> {
        let mut out = vec![format!(
            "{} messages; {} live arrivals, from sending to arriving half of them within {} ms, the slowest {} ms",
            self.messages,
            self.waits.len(),
            millis(self.median()),
            millis(self.slowest()),
        )];
        if let Some((queue, log)) = self.deliveries {
            out.push(format!("deliveries: {queue} by queue, {log} from the log (where a queue was behind)"));
        }
        let boots: Vec<String> = day
            .bootstraps
            .iter()
            .map(|boot| {
                format!(
                    "{} {} messages, {} pages, {} ms",
                    boot.role.name(),
                    boot.messages,
                    boot.pages,
                    millis(boot.took)
                )
            })
            .collect();
        out.push(format!("bootstraps: {}", boots.join("; ")));
        if let Some(ending) = &day.ending {
            let (state, deleted, left) = (&ending.state, ending.deleted, ending.left);
            out.push(format!(
                "termination: {state} in {} ms, {deleted} queues deleted, {left} left",
                millis(ending.took)
            ));
        }
        out
    }
}

fn json_summary(
    day: &Day<'_>,
    agree: bool,
    differences: &[String],
    faults: &[String],
    figures: &Figures,
    took: Duration,
) -> Value {
    let devices = Role::ALL.into_iter().filter_map(|role| day.cast(role)).map(|device| {
        let memory = device.memory();
        let chats = Room::ALL.iter().map(|room| {
            let copy = memory.chat(day.chat(*room));
            let (highest, read, held) =
                copy.map_or((0, 0, 0), |copy| (copy.highest(), copy.read, copy.len()));
            (room.key().to_owned(), json!({"highest": highest, "read": read, "messages": held}))
        });
        json!({
            "device": device.role.key(),
            "state": if day.ended(device.role) { "ended" } else { "live" },
            "live": memory.live,
            "borrowed": memory.borrowed,
            "again": memory.repeated,
            "chats": chats.collect::<serde_json::Map<_, _>>(),
        })
    });
    let bootstraps = day.bootstraps.iter().map(|boot| {
        json!({"device": boot.role.key(), "messages": boot.messages, "pages": boot.pages, "ms": millis(boot.took)})
    });
    let ending = day.ending.as_ref().map(|ending| {
        json!({"state": ending.state, "channels_deleted": ending.deleted, "channels_left": ending.left,
            "ms": millis(ending.took)})
    });
    json!({
        "agree": agree,
        "differences": differences,
        "faults": faults,
        "messages": figures.messages,
        "devices": devices.collect::<Vec<_>>(),
        "bootstraps": bootstraps.collect::<Vec<_>>(),
        "termination": ending,
        "deliveries": figures.deliveries.map(|(queue, log)| json!({"queue": queue, "log": log})),
        "delivery_ms": {"median": millis(figures.median()), "slowest": millis(figures.slowest())},
        "took_ms": millis(took),
    })
}
