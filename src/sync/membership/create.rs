//! Creates chats.

use std::sync::Arc;

use super::{Admission, admit, arrive, limit, password, take_out};
use crate::{
    domain::{
        chat::{Chat, ChatKind, Entry},
        id::{ChatId, UserId},
        now_millis,
    },
    protocol::{ErrorCode, Problem},
    store::{Created, JoinBy, NewChat},
    sync::{Core, people},
};

/// A direct chat that ends while somebody opens it is created again; attempts.
const TRIES: u32 = 3;

/// The request of a client.
#[derive(Debug, Clone)]
pub struct CreateChat {
    /// Chosen by the client, or none.
    pub id: Option<ChatId>,
    /// Direct or group.
    pub kind: ChatKind,
    /// Of a group.
    pub name: Option<String>,
    /// Of a group.
    pub password: Option<String>,
    /// Of a group.
    pub public: bool,
    /// The other user of a direct chat.
    pub with: Option<UserId>,
}

impl CreateChat {
    fn check(&self, user: &UserId) -> Result<(), Problem> {
        let bad = |detail: &'static str| Err(Problem::new(ErrorCode::BadField, detail));
        match (self.kind, &self.with) {
            (ChatKind::Direct, None) => bad("a direct chat needs \"with\": the other user"),
            (ChatKind::Direct, Some(with)) if with == user => bad("a direct chat is with somebody else"),
            (ChatKind::Direct, _) if self.name.is_some() || self.password.is_some() || self.public => {
                bad("a direct chat has no name, no password, and isn't public")
            }
            (ChatKind::Group, Some(_)) => bad("\"with\" is for direct chats: invite members to a group"),
            (ChatKind::Group, None) if self.public && self.name.is_none() => {
                bad("a public group needs a name")
            }
            _ => Ok(()),
        }
    }
}

/// The result of a request.
#[derive(Debug)]
pub struct Made {
    /// The chat.
    pub chat: Chat,
    /// Whether it is new.
    pub created: bool,
    /// Whether the other user of a direct chat was invited.
    pub asked: bool,
}

/// Creates a chat.
///
/// # Errors
/// `bad_field`, `conflict`, `forbidden`, `limit_reached`, `too_many_requests`, `unavailable`.
pub async fn create(core: &Arc<Core>, user: &UserId, new: CreateChat) -> Result<Made, Problem> {
    new.check(user)?;
    core.limit("creates", user, core.limits.creates_per_minute).await?;
    let password_hash = match new.password {
        Some(password) => Some(password::hash(user, password).await?),
        None => None,
    };
    if let Some(with) = &new.with {
        people::opens(core, user, with).await?;
    }
    let id = new.id.unwrap_or_else(ChatId::random);
    let new = NewChat {
        id,
        kind: new.kind,
        name: new.name,
        public: new.public,
        password_hash,
        owner: user.clone(),
        with: new.with,
        entry: core.limits.invites,
        node: core.broker.place(id),
        created: now_millis(),
    };
    let (chat, created) = create_or_join(core, user, &new).await?;
    // Also for an existing chat: a first attempt may have been cut off.
    for member in [Some(user), new.with.as_ref()].into_iter().flatten() {
        if core.store.chat_of_member(chat.id, member).await?.is_some() {
            arrive(core, &chat, member).await?;
        }
    }
    let mut made = Made { chat, created, asked: false };
    if let Some(with) = &new.with {
        made.asked = ask(core, user, with, &made).await?;
    }
    Ok(made)
}

/// Creates the chat, or finds the one that there is, with the user as a member. Returns whether it is new.
async fn create_or_join(core: &Arc<Core>, user: &UserId, new: &NewChat) -> Result<(Chat, bool), Problem> {
    for _ in 0..=TRIES {
        let (chat, created) = create_or_find(core, user, new).await?;
        if created || core.store.chat_of_member(chat.id, user).await?.is_some() {
            return Ok((chat, created));
        }
        // A group whose owner was the last to leave exists for a while yet.
        if chat.kind == ChatKind::Group {
            return Err(taken());
        }
        // A user who left a direct chat, or was invited, joins by opening it.
        match admit(core, &chat, user, JoinBy::Invitation).await {
            Ok(_) => {
                people::came(core, user, chat.id).await?;
                return Ok((chat, created));
            }
            // It ended meanwhile, when the other user left: create it again.
            Err(problem) if problem.code == ErrorCode::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    Err(ending())
}

/// Creates the chat, or finds the one that there is. Returns whether it is new.
async fn create_or_find(core: &Arc<Core>, user: &UserId, new: &NewChat) -> Result<(Chat, bool), Problem> {
    let mut begins = None;
    if let Some(with) = &new.with {
        if core.store.direct(user, with).await?.is_none() {
            people::may_put(core, user, with).await?;
        } else {
            begins = Some(with);
        }
    }
    let chat = match core.store.create_chat(new).await? {
        Created::New(chat) => chat,
        Created::Existing(chat) => return Ok((chat, false)),
        Created::NameTaken => {
            let detail = "another public group has this name: choose another";
            return Err(Problem::new(ErrorCode::Conflict, detail));
        }
        Created::Conflict => return Err(taken()),
        Created::LimitReached => return Err(limit(core)),
    };
    // The existing one has ended in between, and not everybody may create it again.
    if let Some(with) = begins
        && let Err(problem) = people::may_put(core, user, with).await
    {
        take_out(core, &chat, with).await?;
        take_out(core, &chat, user).await?;
        return Err(problem);
    }
    Ok((chat, true))
}

/// Invites the other user of a direct chat, where users are asked. Returns whether they were.
async fn ask(core: &Arc<Core>, user: &UserId, with: &UserId, made: &Made) -> Result<bool, Problem> {
    let (chat, entry) = (&made.chat, core.limits.invites);
    if made.created && entry == Entry::AtOnce {
        core.store.note_invited(with, chat.id, user).await?;
    }
    // A concurrent block may have looked for the chat before it existed.
    if core.store.stance(with, user).await?.blocks {
        take_out(core, chat, user).await?;
        people::may_reach(core, user, with).await?;
    }
    let asked = match (entry, made.created) {
        (Entry::AtOnce, _) => None,
        (Entry::ByConsent, true) => Some(people::ask_first(core, chat, user, with).await?),
        (Entry::ByConsent, false) => people::ask_again(core, chat, user, with).await?,
    };
    Ok(asked == Some(Admission::Asked))
}

fn ending() -> Problem {
    Problem::new(ErrorCode::Unavailable, "this chat is just ending: try again in a moment")
}

fn taken() -> Problem {
    Problem::new(ErrorCode::Conflict, "this chat id is taken: make a new one")
}
