//! Who didn't say who may come in gets a server that nobody else reaches, and no log tells how to come in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;

use crate::stories::client::Api;
use crate::support::{Edge, EdgeConfig, JWT_SECRET, Process, free_port, temp_folder};

/// A server with exactly these settings, which is there.
struct Server {
    _process: Process,
    _folder: TempDir,
    api: Api,
}

impl Server {
    async fn start(listen: &str, settings: &[(&str, &str)]) -> Server {
        let (folder, port) = (temp_folder("closed"), free_port());
        let mut env = BTreeMap::from([
            ("KEEPSTEP_LISTEN".to_owned(), format!("{listen}:{port}")),
            ("KEEPSTEP_OPS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ]);
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let program = PathBuf::from(env!("CARGO_BIN_EXE_keepstep"));
        let mut process = Process::new("server", program, folder.path().join("log")).arg("serve").env(env);
        process.spawn();
        let api = Api { edge: format!("127.0.0.1:{port}"), token: None };
        let answers = async || tokio::net::TcpStream::connect(&api.edge).await.is_ok();
        process.ready(answers).await.unwrap_or_else(|why| panic!("{why}"));
        Server { _process: process, _folder: folder, api }
    }
}

#[tokio::test]
async fn the_playground_has_no_second_listener_beyond_this_machine_unless_it_is_asked_for() {
    let open = [("KEEPSTEP_JWT_SECRET", JWT_SECRET), ("KEEPSTEP_PLAYGROUND", "true")];
    let server = Server::start("0.0.0.0", &open).await;
    let made = server.api.post("/v1/playground", json!({})).await.with(200);
    assert_eq!(made["second_edge"], json!(null), "nobody asked for it: {made}");
    let asked = [&open[..], &[("KEEPSTEP_PLAYGROUND_LISTEN", "0.0.0.0:0")]].concat();
    let server = Server::start("0.0.0.0", &asked).await;
    let made = server.api.post("/v1/playground", json!({})).await.with(200);
    assert!(made["second_edge"].is_string(), "{made}");
    // With a secret of one's own there is none unless it is asked for; without, only this machine has it.
    let server = Server::start("0.0.0.0", &open[..1]).await;
    server.api.post("/v1/playground", json!({})).await.problem(404, "not_found");
    let server = Server::start("127.0.0.1", &[]).await;
    let made = server.api.post("/v1/playground", json!({})).await.with(200);
    assert!(made["second_edge"].as_str().is_some_and(|edge| edge.starts_with("http://127.0.0.1:")), "{made}");
}

#[tokio::test]
async fn an_admins_token_is_printed_to_a_terminal_only() {
    let config = EdgeConfig::embedded().unset("KEEPSTEP_JWT_SECRET");
    let mut edge = Edge::start(config.clone()).await;
    edge.ready().await;
    let printed = edge.process().log();
    assert!(printed.contains("export TOKEN=ey") && printed.contains("export BOB=ey"), "{printed}");
    assert!(!printed.contains("KEEPSTEP_ADMIN_TOKEN=") && printed.contains("keepstep token"), "{printed}");
    // The text that says what to try next is about this port.
    assert!(printed.contains(&format!("export KEEPSTEP_URL={} ", edge.url(""))), "{printed}");
    let mut edge = Edge::start(config.on_a_terminal()).await;
    edge.ready().await;
    crate::support::wait_until("the token", crate::support::PATIENCE, async || {
        edge.process().log().contains("export KEEPSTEP_ADMIN_TOKEN=ey").then_some(())
    })
    .await;
}
