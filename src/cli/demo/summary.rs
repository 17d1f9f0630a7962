//! The end: what each device has, laid side by side.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    cast::{Role, Room},
    day::{Day, millis},
    device::Device,
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

    screen.section("Do all devices agree?")?;
    table(day, &differences)?;
    screen.plain("")?;
    let heads: Vec<String> =
        Room::ALL.iter().map(|room| format!("{} #{}", room.name(), day.head(*room))).collect();
    let heads = heads.join(", ");
    let living = Role::ALL.iter().filter(|role| day.cast(**role).is_some() && !day.ended(**role)).count();
    if agree {
        screen.plain(&format!("  {}", screen.good(&format!("✓ all {living} devices agree at {heads}"))))?;
    } else {
        screen.plain(&format!("  {}", screen.bad("✗ not as it should be:")))?;
        for line in differences.iter().map(|difference| &difference.said).chain(&faults) {
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

/// What one device has otherwise than it should.
struct Difference {
    role: Role,
    said: String,
}

/// Each device against the longest copy, message by message; and the read offsets of each person's devices.
fn differences(day: &Day<'_>) -> Vec<Difference> {
    let mut out = Vec::new();
    for room in Room::ALL {
        let (head, chat, place) = (day.head(room), day.chat(room), room.name());
        // What the phone of the one who keeps the longest history says is what the others are held against.
        let first = living(day).find(|device| device.role.is_main());
        for device in living(day) {
            let (role, name) = (device.role, device.role.name());
            let mut differs = |said: String| out.push(Difference { role, said: format!("{name} {said}") });
            for seq in 1..=head {
                let held = |device: &Device| device.memory().history().get(chat, seq);
                match (held(device), first.and_then(held)) {
                    (None, _) => differs(format!("lacks #{seq} in {place}")),
                    (Some(own), Some(expected)) if own != expected => {
                        differs(format!("has another #{seq} in {place} than the phone"));
                    }
                    _ => {}
                }
            }
            let read = device.memory().read(chat);
            if read != head {
                differs(format!("holds {place} for read up to #{read}; it is #{head}"));
            }
        }
    }
    out
}

fn living<'a>(day: &'a Day<'_>) -> impl Iterator<Item = &'a Device> {
    Role::ALL.into_iter().filter(|role| !day.ended(*role)).filter_map(|role| day.cast(role))
}

fn faults(day: &Day<'_>) -> Vec<String> {
    let seen = Role::ALL.into_iter().filter_map(|role| day.cast(role)).flat_map(|device| {
        let faults = device.memory().faults.clone();
        faults.into_iter().map(|fault| format!("{} saw: {fault}", device.role.name()))
    });
    day.faults.iter().cloned().chain(seen).collect()
}

fn table(day: &Day<'_>, differences: &[Difference]) -> Result<(), Failure> {
    let screen = day.screen;
    let head = format!(
        "  {:<13}{:>6}{:>10}{:>7}{:>11}{:>9}   {:<12}{}",
        "device", "live", "borrowed", "again", "direct", "Studio", "read", "agrees"
    );
    screen.plain(&screen.dim(&head))?;
    for device in Role::ALL.into_iter().filter_map(|role| day.cast(role)) {
        let memory = device.memory();
        let of = |room: Room| (memory.highest(day.chat(room)), memory.read(day.chat(room)));
        let [(direct, read), (studio, also)] = Room::ALL.map(of);
        let verdict = if day.ended(device.role) {
            screen.dim("× ended")
        } else if differences.iter().any(|difference| difference.role == device.role) {
            screen.bad("✗ no")
        } else {
            screen.good("✓ yes")
        };
        let line = format!(
            "{:>6}{:>10}{:>7}{:>11}{:>9}   {:<12}",
            memory.live,
            memory.borrowed,
            memory.repeated,
            format!("#1-#{direct}"),
            format!("#1-#{studio}"),
            format!("#{read}, #{also}"),
        );
        let name = screen.in_colour(device.role, &cell(device.role.name(), 13));
        screen.plain(&format!("  {name}{line}{verdict}"))?;
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
        let mut out = Vec::new();
        if let Some((queue, log)) = self.deliveries {
            let (sent, all) = (self.messages, queue + log);
            out.push(format!("{sent} messages, {all} deliveries: {queue} from a queue, {log} from the log"));
        }
        out.push(format!(
            "from sending to arriving: half within {} ms, the slowest {} ms ({} measured)",
            millis(self.median()),
            millis(self.slowest()),
            self.waits.len(),
        ));
        let boots: Vec<String> = day
            .bootstraps
            .iter()
            .map(|boot| {
                format!(
                    "{}: {} messages, {} pages, {} ms",
                    boot.role.name(),
                    boot.messages,
                    boot.pages,
                    millis(boot.took)
                )
            })
            .collect();
        out.push(format!("bootstraps of {}", boots.join("; ")));
        if let Some(ending) = &day.ending {
            let (state, deleted, left) = (&ending.state, ending.deleted, ending.left);
            out.push(format!(
                "the end of the café's session: {state} in {} ms, {deleted} queues deleted, {left} left",
                millis(ending.took)
            ));
        }
        out
    }
}

fn json_summary(
    day: &Day<'_>,
    agree: bool,
    differences: &[Difference],
    faults: &[String],
    figures: &Figures,
    took: Duration,
) -> Value {
    let devices = Role::ALL.into_iter().filter_map(|role| day.cast(role)).map(|device| {
        let memory = device.memory();
        let chats = Room::ALL.iter().map(|room| {
            let chat = day.chat(*room);
            let (highest, read, held) =
                (memory.highest(chat), memory.read(chat), memory.history().count(chat));
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
        "differences": differences.iter().map(|difference| &difference.said).collect::<Vec<_>>(),
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
