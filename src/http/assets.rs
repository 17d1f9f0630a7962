//! The pages: the files of `web/`, from the binary or from a folder.
//!
//! Tests and npm's files are neither embedded nor served from a folder. A path is split before a file is opened, so it can't
//! lead out of the folder.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use rust_embed::Embed;
use sha2::{Digest, Sha256};
use warp::{
    Reply,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::Context;
use crate::config::PageConfig;

#[derive(Embed)]
#[folder = "web/"]
#[exclude = "*.test.mjs"]
#[exclude = "*/test/*"]
#[exclude = "*/node_modules/*"]
#[exclude = "*package-lock.json"]
struct Embedded;

/// The files and their compressed bytes.
#[derive(Debug, Clone)]
pub struct Assets {
    source: Source,
    no_demo: bool,
    // By name, with the tag of the file that was compressed. No more than there are files.
    packed: Arc<Mutex<HashMap<String, (HeaderValue, Bytes)>>>,
}

/// Place of the files.
#[derive(Debug, Clone)]
enum Source {
    /// In the binary.
    Embedded,
    /// In a folder, read at each request.
    Folder(Arc<PathBuf>),
}

/// One file.
#[derive(Debug)]
pub(super) struct Asset {
    name: String,
    kind: &'static str,
    tag: HeaderValue,
    bytes: Cow<'static, [u8]>,
}

impl From<&PageConfig> for Assets {
    fn from(pages: &PageConfig) -> Self {
        let folder = |folder: &PathBuf| Source::Folder(folder.clone().into());
        let source = pages.web.as_ref().map_or(Source::Embedded, folder);
        Self { source, no_demo: pages.no_demo, packed: Arc::default() }
    }
}

impl Assets {
    /// Returns the file of a request's path, which isn't decoded: no file's name needs that.
    pub(super) async fn find(&self, path: &str) -> Option<Asset> {
        let name = name(path).filter(|name| !(self.no_demo && name.starts_with("demo/")))?;
        let kind = kind(name)?;
        let (bytes, hash) = match &self.source {
            Source::Embedded => {
                let file = Embedded::get(name)?;
                (file.data, file.metadata.sha256_hash())
            }
            Source::Folder(folder) => {
                let bytes = tokio::fs::read(folder.join(name)).await.ok()?;
                let hash = Sha256::digest(&bytes).into();
                (bytes.into(), hash)
            }
        };
        let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::from_str(&format!("W/\"{hex}\"")).ok()?;
        Some(Asset { name: name.to_owned(), kind, tag, bytes })
    }

    /// Returns the compressed file, about a third of its size. Compressed once, so that repeated requests take no CPU time.
    fn packed(&self, asset: &Asset) -> Option<Bytes> {
        let mut all = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packed)) = all.get(&asset.name).filter(|(tag, _)| *tag == asset.tag) {
            return Some(packed.clone());
        }
        let mut out = GzEncoder::new(Vec::with_capacity(asset.bytes.len() / 2), Compression::default());
        out.write_all(&asset.bytes).ok()?;
        let packed = Bytes::from(out.finish().ok()?);
        all.insert(asset.name.clone(), (asset.tag.clone(), packed.clone()));
        Some(packed)
    }
}

/// Returns the file of `web/` for a path. None: no page has such a path.
fn name(path: &str) -> Option<&str> {
    match path {
        "/" => return Some("demo/index.html"),
        "/admin" | "/admin/" => return Some("admin/index.html"),
        _ => {}
    }
    let name = path.strip_prefix('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    let unwanted = |part: &str| {
        matches!(part, "test" | "node_modules" | "package-lock.json") || part.ends_with(".test.mjs")
    };
    let (first, rest) = name.split_once('/')?;
    (matches!(first, "sdk" | "demo" | "admin" | "shared")
        && rest.split('/').all(|part| plain(part) && !unwanted(part)))
    .then_some(name)
}

/// Returns the content type. None: a file of this kind isn't served.
fn kind(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ts" | "md" | "txt" => "text/plain; charset=utf-8",
        _ => return None,
    })
}

/// Returns the response. Browsers revalidate each file, mostly with `304`, because a page and its modules must be of one build.
pub(super) fn serve(asset: Asset, context: &Context, asked: &HeaderMap) -> Response {
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || asset.tag == tag);
    let wanted = !known && asset.kind != "image/png" && takes_gzip(asked);
    let packed = if wanted { context.assets.packed(&asset) } else { None };
    let is_packed = packed.is_some();
    let mut response = match packed {
        _ if known => StatusCode::NOT_MODIFIED.into_response(),
        Some(packed) => Response::new(packed.into()),
        None => match asset.bytes {
            // The files of the binary are in memory once.
            Cow::Borrowed(bytes) => Response::new(Bytes::from_static(bytes).into()),
            Cow::Owned(bytes) => bytes.into_response(),
        },
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    }
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    headers.insert(header::ETAG, asset.tag);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Ok(policy) = HeaderValue::from_str(&policy(context, asked)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    asked
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case("gzip"))
}

/// Returns the content security policy: a page may run its own files, and connect to this edge and to the playground's.
/// Some browsers don't take `'self'` for sockets of the same host, so they are named.
fn policy(context: &Context, asked: &HeaderMap) -> String {
    let host = super::host(asked);
    let mut connect = String::from("'self'");
    if let Some(host) = host {
        connect.push_str(&format!(" ws://{host} wss://{host}"));
    }
    for edge in context.playground.iter().flat_map(|playground| playground.edges(host)) {
        connect.push_str(&format!(" {edge} {}", edge.replacen("http", "ws", 1)));
    }
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: https:; \
         connect-src {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

#[cfg(test)]
#[path = "../../tests/unit/http/assets.rs"]
mod tests;
