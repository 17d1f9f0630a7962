//! The conversation: a file of the repository, part by part.

use std::collections::BTreeMap;

use keepstep_client::Draft;
use serde::Deserialize;
use serde_json::Value;

use super::{
    cast::{Person, Room},
    text,
};
use crate::cli::Failure;

const FILE: &str = include_str!("conversation.json");

/// What is said, by whom and when.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Of the story.
    pub title: String,
    #[serde(rename = "about")]
    _about: String,
    parts: BTreeMap<String, Vec<Line>>,
}

/// One message.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// The story's clock: `09:02`, or `Wed 09:02` for the days before.
    pub at: String,
    /// Who says it.
    pub by: Person,
    /// Where.
    #[serde(rename = "in")]
    pub room: Room,
    /// In which language, when it is in one.
    pub lang: Option<String>,
    /// What it says.
    #[serde(flatten)]
    pub draft: Draft,
}

impl Script {
    /// The file, read.
    ///
    /// # Errors
    /// When the file in the repository is broken, which a test would have seen.
    pub fn load() -> Result<Self, Failure> {
        serde_json::from_str(FILE)
            .map_err(|error| Failure::run(format!("src/cli/demo/conversation.json can't be read: {error}")))
    }

    /// The lines of one part; none when there is no such part.
    #[must_use]
    pub fn part(&self, name: &str) -> &[Line] {
        self.parts.get(name).map_or(&[], Vec::as_slice)
    }
}

impl Line {
    /// As a chat window would show it in one line.
    #[must_use]
    pub fn shown(&self) -> String {
        let Draft { kind, content, media, memo, .. } = &self.draft;
        let content = content.as_ref();
        let field = |value: Option<&Value>, name: &str| {
            value.and_then(|value| value.get(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let said = content.and_then(Value::as_str).unwrap_or_default();
        let shown = match kind.as_str() {
            "media" => {
                let media = media.clone().unwrap_or_default();
                let sign = match media.mime.as_deref().unwrap_or_default().split('/').next() {
                    Some("image") => "🖼️",
                    Some("audio") => "🎤",
                    _ => "📎",
                };
                let name = media.name.unwrap_or_default();
                format!("{sign} {name} ({}) {said}", bytes(media.size.unwrap_or(0)))
            }
            "x.payment" => {
                let memo = memo.as_deref().unwrap_or_default();
                format!("💶 {} {}: {memo}", field(content, "amount"), field(content, "currency"))
            }
            "x.location" => format!("📍 {}", field(content, "label")),
            _ => said.replace("```python\n", "⌨️ ").replace("```", ""),
        };
        text::one_line(&shown)
    }

    /// What it is an example of: its language or its kind.
    #[must_use]
    pub fn sort(&self) -> &str {
        self.lang.as_deref().unwrap_or(&self.draft.kind)
    }
}

fn bytes(size: u64) -> String {
    if size >= 1_000_000 {
        format!("{}.{} MB", size / 1_000_000, size / 100_000 % 10)
    } else {
        format!("{} KB", size / 1000)
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/cli/demo/script.rs"]
mod tests;
