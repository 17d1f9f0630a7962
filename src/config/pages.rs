//! The pages that the server brings along, and the playground behind the demo page.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, builder::BoolishValueParser};
use reqwest::Url;

use super::{
    Backend, ConfigError, TokenConfig,
    args::given,
    values::{listen, without_path},
};

/// What is served beside the API.
#[derive(Debug, Clone, Default)]
pub struct PageConfig {
    /// Where the pages' files are. `KEEPSTEP_WEB`, default none: those in the binary.
    pub web: Option<PathBuf>,
    /// Whether strangers get made-up users. `KEEPSTEP_PLAYGROUND`, default: only in the embedded mode with a made-up
    /// secret. None: off.
    pub playground: Option<PlaygroundConfig>,
}

/// The playground.
#[derive(Debug, Clone)]
pub struct PlaygroundConfig {
    /// In the embedded mode: where the second edge listens. `KEEPSTEP_PLAYGROUND_LISTEN`, default a free port of the
    /// address of `KEEPSTEP_LISTEN`.
    pub listen: Option<SocketAddr>,
    /// On Redis and NSQ: other edges as browsers reach them. `KEEPSTEP_PLAYGROUND_EDGES`, comma-separated, default none.
    pub edges: Vec<Url>,
}

#[derive(Args)]
#[command(next_help_heading = "Pages")]
pub(super) struct PageArgs {
    /// Folder with the pages' files, for who works on them [default: those in the binary]
    #[arg(long, env = "KEEPSTEP_WEB", value_name = "FOLDER")]
    web: Option<PathBuf>,
    /// Give made-up users to whoever opens the demo page [default: only embedded with a made-up secret]
    #[arg(long, env = "KEEPSTEP_PLAYGROUND", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    playground: Option<bool>,
    /// Embedded: where the playground's second edge listens [default: a free port]
    #[arg(long, env = "KEEPSTEP_PLAYGROUND_LISTEN", value_parser = listen, value_name = "ADDR")]
    playground_listen: Option<SocketAddr>,
    /// On Redis and NSQ: other edges for the demo page, as browsers reach them: http://host:port, separated by commas
    #[arg(long, env = "KEEPSTEP_PLAYGROUND_EDGES", value_name = "URLS")]
    playground_edges: Option<String>,
}

impl PageArgs {
    pub(super) fn into_config(
        self,
        tokens: &TokenConfig,
        backend: &Backend,
    ) -> Result<PageConfig, ConfigError> {
        let web = self.web.filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = web.as_ref().filter(|folder| !folder.is_dir()) {
            let reason =
                format!("{} is no folder: give the one with demo/ and admin/ in it", folder.display());
            return Err(ConfigError::value("KEEPSTEP_WEB", reason));
        }
        if !self.playground.unwrap_or(tokens.generated) {
            return Ok(PageConfig { web, playground: None });
        }
        if tokens.jwt_secret.is_none() {
            return Err(ConfigError::Conflict(
                "KEEPSTEP_PLAYGROUND needs KEEPSTEP_JWT_SECRET to sign its users' tokens, and with KEEPSTEP_JWKS alone \
                 only your identity provider signs: set a secret too, or leave the playground off"
                    .to_owned(),
            ));
        }
        let edges = given(self.playground_edges.as_deref()).map_or(Ok(Vec::new()), edges)?;
        if matches!(backend, Backend::Embedded) && !edges.is_empty() {
            return Err(ConfigError::value(
                "KEEPSTEP_PLAYGROUND_EDGES",
                "the embedded mode brings its second edge along: leave it empty, or choose its address with \
                 KEEPSTEP_PLAYGROUND_LISTEN",
            ));
        }
        Ok(PageConfig { web, playground: Some(PlaygroundConfig { listen: self.playground_listen, edges }) })
    }
}

fn edges(text: &str) -> Result<Vec<Url>, ConfigError> {
    let one = |text: &str| {
        without_path(text.trim()).ok_or_else(|| {
            let reason = format!("`{}` isn't the address of an edge: write http://host:port", text.trim());
            ConfigError::value("KEEPSTEP_PLAYGROUND_EDGES", reason)
        })
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(one).collect()
}
