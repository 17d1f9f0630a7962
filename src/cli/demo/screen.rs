//! What a person sees of the day: a timeline with one column and one colour per device; or JSON, an event a line.

use std::{
    cell::Cell,
    io::{IsTerminal, Write},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Colour,
    cast::{Person, Role, Room},
    marks::{Mark, Row},
    text::{cell, clip, isolated, width, wrap},
};
use crate::cli::{Failure, print};

/// Where the text begins: time, device, sign.
const MARGIN: usize = 22;
/// `#123 ` and two columns with a space before each, per device.
const SEQ: usize = 5;
const MARKS: usize = 3 * Role::ALL.len();
/// A wait that takes longer is shown.
const PATIENT: Duration = Duration::from_millis(300);
const FRAME: Duration = Duration::from_millis(90);

/// Where it all goes.
#[derive(Debug)]
pub struct Screen {
    json: bool,
    colour: bool,
    live: bool,
    width: usize,
    pace: f64,
    // A line that is drawn over stands there now.
    drawn: Cell<bool>,
}

impl Screen {
    /// The standard output. `pace`: 1 is for reading along, 0 as fast as it goes.
    #[must_use]
    pub fn new(json: bool, colour: Colour, pace: f64) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let colour = match colour {
            Colour::Auto => terminal && !dumb && set("NO_COLOR").is_none(),
            Colour::Always => true,
            Colour::Never => false,
        };
        let columns =
            if terminal { terminal_size::terminal_size().map(|(columns, _)| columns.0) } else { None };
        let width = usize::from(columns.unwrap_or(100)).clamp(80, 110);
        Self {
            json,
            colour: colour && !json,
            live: terminal && !dumb && !json,
            width,
            pace,
            drawn: Cell::new(false),
        }
    }

    /// Whether it is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Columns of a line.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Time to read.
    pub async fn pause(&self, millis: u32) {
        let pause = Duration::from_millis(u64::from(millis)).mul_f64(self.pace);
        if !self.json && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    /// In the colour of a device.
    #[must_use]
    pub fn in_colour(&self, role: Role, text: &str) -> String {
        self.paint(&format!("38;5;{}", role.colour()), text)
    }

    /// Bold.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Grey: said by the side.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    /// All is well.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// It isn't.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A plain line; nothing in JSON.
    ///
    /// # Errors
    /// When it can't be written; the same for all below.
    pub fn plain(&self, line: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.wipe();
        print(line.trim_end())
    }

    /// A JSON object; nothing else otherwise.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn event(&self, event: &str, mut data: Value) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        if let Value::Object(fields) = &mut data {
            fields.insert("event".to_owned(), json!(event));
        }
        print(&data.to_string())
    }

    /// A part of the day begins.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn chapter(&self, at: &str, title: &str) -> Result<(), Failure> {
        self.event("chapter", json!({"at": at, "text": title}))?;
        let heads: Vec<String> = Role::ALL.iter().map(|role| self.in_colour(*role, role.head())).collect();
        self.heading(at, title, &heads.join(" "))
    }

    /// A part of the telling that has no messages.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn section(&self, title: &str) -> Result<(), Failure> {
        self.event("chapter", json!({"at": "", "text": title}))?;
        self.heading("", title, "")
    }

    fn heading(&self, at: &str, title: &str, heads: &str) -> Result<(), Failure> {
        let at = if at.is_empty() { String::new() } else { format!("{at}  ") };
        let heads = if heads.is_empty() { String::new() } else { format!(" {heads}") };
        let taken = 4 + if heads.is_empty() { 1 } else { 1 + MARKS };
        let title = clip(&format!("{at}{title}"), self.width.saturating_sub(taken + 1));
        let rule = self.dim(&"─".repeat(self.width.saturating_sub(width(&title) + taken)));
        self.plain("")?;
        self.plain(&format!("{} {} {rule}{heads}", self.dim("──"), self.bold(&title)))
    }

    /// A message, and how each device stands to it.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn message(&self, row: &Row<'_>) -> Result<(), Failure> {
        let marks: serde_json::Map<String, Value> = Role::ALL
            .iter()
            .zip(&row.marks)
            .map(|(role, mark)| (role.key().to_owned(), json!(mark.key())))
            .collect();
        self.event(
            "message",
            json!({"at": row.at, "device": row.from.key(), "chat": row.room.key(), "seq": row.seq, "text": row.text,
                "devices": marks}),
        )?;
        let mut columns = self.width.saturating_sub(MARGIN + SEQ + 1 + MARKS);
        let mut tag = String::new();
        if row.room == Room::Studio {
            tag = format!("{} ", self.dim("[Studio]"));
            columns = columns.saturating_sub(9);
        }
        let marks: String = Role::ALL
            .iter()
            .zip(&row.marks)
            .map(|(role, mark)| match mark {
                Mark::Absent | Mark::Ended => format!(" {} ", self.dim(mark.sign())),
                _ => format!(" {} ", self.in_colour(*role, mark.sign())),
            })
            .collect();
        let seq = self.dim(&format!("{:>SEQ$}", format!("#{}", row.seq)));
        self.plain(&format!(
            "{}{tag}{} {seq}{marks}",
            self.margin(row.at, row.from, "▸"),
            cell(row.text, columns)
        ))
    }

    /// Something that a device did or saw.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn seen(
        &self,
        event: &str,
        at: &str,
        role: Role,
        said: &str,
        mut data: Value,
    ) -> Result<(), Failure> {
        if let Value::Object(fields) = &mut data {
            let more = [("at", json!(at)), ("device", json!(role.key())), ("text", json!(said))];
            fields.extend(more.map(|(name, value)| (name.to_owned(), value)));
        }
        self.event(event, data)?;
        for (i, line) in wrap(said, self.width.saturating_sub(MARGIN + 1)).into_iter().enumerate() {
            let margin = if i == 0 { self.margin(at, role, "◂") } else { " ".repeat(MARGIN) };
            self.plain(&format!("{margin}{}", self.in_colour(role, &isolated(&line))))?;
        }
        Ok(())
    }

    /// What the server says of itself.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn note(&self, event: &str, said: &str, data: Value) -> Result<(), Failure> {
        self.aside("server", event, said, data)
    }

    /// What there is to say by the side, and who says it.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn aside(&self, who: &str, event: &str, said: &str, mut data: Value) -> Result<(), Failure> {
        if let Value::Object(fields) = &mut data {
            fields.insert("text".to_owned(), json!(said));
        }
        self.event(event, data)?;
        for (i, line) in wrap(said, self.width.saturating_sub(MARGIN + 1)).into_iter().enumerate() {
            let (who, sign) = if i == 0 { (who, "│") } else { ("", " ") };
            self.plain(&self.dim(&format!("        {who:<11} {sign} {line}")))?;
        }
        Ok(())
    }

    /// How far something is. On a terminal it is drawn over until `last`; elsewhere only the last one is written.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn progress(
        &self,
        at: &str,
        role: Role,
        done: u64,
        all: u64,
        said: &str,
        last: bool,
    ) -> Result<(), Failure> {
        let bar = self.bar(role, done, all);
        let line = format!("{}{bar} {done}/{all}  {said}", self.margin(at, role, "◂"));
        if last {
            self.plain(&line)
        } else {
            self.draw(&line);
            Ok(())
        }
    }

    fn bar(&self, role: Role, done: u64, all: u64) -> String {
        let cells = 20;
        let full = usize::try_from(done.min(all) * cells / all.max(1)).unwrap_or(0);
        let rest = usize::try_from(cells).unwrap_or(0) - full;
        format!("{}{}", self.in_colour(role, &"█".repeat(full)), self.dim(&"░".repeat(rest)))
    }

    /// Waits, and says for what when it takes a while.
    pub async fn during<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(PATIENT, &mut work).await {
            return done;
        }
        for frame in ["⠋", "⠙", "⠸", "⠴", "⠦", "⠇"].iter().cycle() {
            self.draw(&self.dim(&clip(&format!("{:>MARGIN$}{frame} {what} ...", ""), self.width - 1)));
            if let Ok(done) = tokio::time::timeout(FRAME, &mut work).await {
                self.wipe();
                return done;
            }
        }
        work.await
    }

    fn margin(&self, at: &str, role: Role, sign: &str) -> String {
        let name = cell(role.name(), 11);
        format!(" {}  {} {} ", self.dim(&format!("{at:>5}")), self.in_colour(role, &name), self.dim(sign))
    }

    fn draw(&self, line: &str) {
        if self.live {
            let mut out = std::io::stdout().lock();
            // If it can't be written, the next line that matters says so.
            let _ = write!(out, "\r\u{1b}[2K{line}").and_then(|()| out.flush());
            self.drawn.set(true);
        }
    }

    fn wipe(&self) {
        if self.drawn.replace(false) {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\r\u{1b}[2K").and_then(|()| out.flush());
        }
    }

    /// The legend at the top.
    ///
    /// # Errors
    /// See [`Screen::plain`].
    pub fn legend(&self) -> Result<(), Failure> {
        for person in [Person::Alice, Person::Bob] {
            let devices: Vec<String> = Role::ALL
                .iter()
                .filter(|role| role.person() == person)
                .map(|role| {
                    let kind = if role.is_main() { "main" } else { "sub" };
                    self.in_colour(*role, &format!("{} {} ({kind})", role.head(), role.described().0))
                })
                .collect();
            self.plain(&format!("  {}", devices.join("   ")))?;
        }
        self.plain(&self.dim("  ▲ sent it   ● has it   ○ waits in its queue   · isn't there   × was ended"))
    }
}
