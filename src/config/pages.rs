//! The pages that the server brings along, and the playground behind the demo page.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, builder::BoolishValueParser};
use reqwest::Url;

use super::{
    Backend, ConfigError, TokenConfig,
    args::given,
    values::{listen, without_path},
};

/// Pages beside the API.
#[derive(Debug, Clone, Default)]
pub struct PageConfig {
    /// Folder of the pages' files. `KEEPSTEP_WEB`, default none: those in the binary.
    pub web: Option<PathBuf>,
    /// Don't serve the demo page: `KEEPSTEP_DEMO`, default true, is false.
    pub no_demo: bool,
    /// Gives test users to everyone. `KEEPSTEP_PLAYGROUND`, default: embedded with a generated secret. None: off.
    pub playground: Option<PlaygroundConfig>,
}

/// The playground.
#[derive(Debug, Clone)]
pub struct PlaygroundConfig {
    /// Embedded: address of the second edge. `KEEPSTEP_PLAYGROUND_LISTEN`, default a free port of the address of
    /// `KEEPSTEP_LISTEN` if only this machine reaches that, else no second edge.
    pub listen: Option<SocketAddr>,
    /// On Redis and NSQ: URLs of other edges for browsers. `KEEPSTEP_PLAYGROUND_EDGES`, comma-separated, default none.
    pub edges: Vec<Url>,
}

#[derive(Args)]
#[command(next_help_heading = "Pages and playground")]
pub(super) struct PageArgs {
    /// Folder with the files of the demo page and the console, for work on them. Empty: the files in the binary
    #[arg(long, env = "KEEPSTEP_WEB", value_name = "FOLDER")]
    web: Option<PathBuf>,
    /// Serve the demo page at /
    #[arg(long, env = "KEEPSTEP_DEMO", default_value = "true", default_missing_value = "true", num_args = 0..=1,
        require_equals = true, value_parser = BoolishValueParser::new(), action = clap::ArgAction::Set, value_name = "BOOL")]
    demo: bool,
    /// Give test users to everyone who opens the demo page. Never enable it where users are real [default: true when embedded
    /// with a generated secret, else false]
    #[arg(long, env = "KEEPSTEP_PLAYGROUND", default_missing_value = "true", num_args = 0..=1, require_equals = true,
        value_parser = BoolishValueParser::new(), value_name = "BOOL")]
    playground: Option<bool>,
    /// Embedded: address of the playground's second edge [default: a free port of this machine; no second edge where
    /// KEEPSTEP_LISTEN can be reached by others]
    #[arg(long, env = "KEEPSTEP_PLAYGROUND_LISTEN", value_parser = listen, value_name = "ADDR")]
    playground_listen: Option<SocketAddr>,
    /// On Redis and NSQ: URLs of other edges for the demo page, as browsers reach them: http://host:port, separated by commas.
    /// The page's origin must be in their KEEPSTEP_ALLOWED_ORIGINS
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
            return Ok(PageConfig { web, no_demo: !self.demo, playground: None });
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
        let playground = Some(PlaygroundConfig { listen: self.playground_listen, edges });
        Ok(PageConfig { web, no_demo: !self.demo, playground })
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
