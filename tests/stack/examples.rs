//! The README's example and the quick start, unchanged: shell, JavaScript and Python from the pages, against a server
//! started as the page says. Only the address differs, because tests have their own ports.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::stories::client::PATIENCE;
use crate::support::{Edge, EdgeConfig, Process, repository, wait_for, wait_until};

/// The server's address in the README.
const SAID: &str = "http://127.0.0.1:8080";

/// A terminal in a copy of the repository's folder, with the server's printed lines pasted into it.
struct Terminal {
    folder: tempfile::TempDir,
    edge: String,
    exports: String,
}

impl Terminal {
    /// Returns a terminal with the server's printed lines pasted into it, beside the quick start's clients.
    async fn with_examples(edge: &mut Edge) -> Terminal {
        // Three, and where the server is, because that isn't where the pages say.
        let log = wait_for("four lines to paste", PATIENCE, async || {
            let log = edge.process().log();
            if exports(&log).len() == 4 { Ok(log) } else { Err(log) }
        })
        .await;
        let exports = exports(&log);
        assert!(exports[3].starts_with(&format!("export KEEPSTEP_URL={} ", edge.url(""))), "{log}");
        let page = page("docs/quick-start.md");
        let folder = tempfile::tempdir().expect("a folder");
        let examples = folder.path().join("docs/examples");
        std::fs::create_dir_all(&examples).expect("a folder");
        write(&examples.join("client.mjs"), &blocks(&page, "js")[0]);
        write(&examples.join("client.py"), &blocks(&page, "python")[0]);
        Terminal { folder, edge: edge.url(""), exports: exports.join("\n") }
    }

    /// Types a line or a block, and leaves it running.
    fn types(&self, name: &str, line: &str) -> Process {
        let script = format!("set -e\ncd {}\n{}\n{line}", self.folder.path().display(), self.exports);
        let env = BTreeMap::from([("KEEPSTEP_URL".to_owned(), self.edge.clone())]);
        let log = self.folder.path().join(format!("{name}.log"));
        let mut process = Process::new(name, PathBuf::from("bash"), log).arg("-c").arg(script).env(env);
        process.spawn();
        process
    }

    /// The same with one command, which replaces the shell, so that signals reach it.
    fn runs(&self, name: &str, command: &str) -> Process {
        self.types(name, &format!("exec env {command}"))
    }
}

/// Returns the printed lines that are to be pasted.
fn exports(log: &str) -> Vec<&str> {
    log.lines().map(str::trim).filter(|line| line.starts_with("export ")).collect()
}

/// Returns the blocks of one language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    page.split(&begin)
        .skip(1)
        .filter_map(|rest| rest.split_once("\n```"))
        .map(|(block, _)| format!("{block}\n"))
        .collect()
}

/// Returns the only line of these blocks that contains this.
fn line(blocks: &[String], says: &str) -> String {
    let lines: Vec<&str> =
        blocks.iter().flat_map(|block| block.lines()).filter(|line| line.contains(says)).collect();
    assert_eq!(lines.len(), 1, "one line of the page says {says}: {lines:?}");
    lines[0].to_owned()
}

async fn says(process: &Process, what: &str) {
    wait_until(what, PATIENCE, || async {
        process.log().lines().any(|line| line.contains(what)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_first_minute_of_the_readme_is_as_it_says() {
    let readme = page("README.md");
    let shell = blocks(&readme, "sh");
    // (The SDK's own tests run it.)
    assert_eq!(
        blocks(&readme, "js"),
        blocks(&page("web/sdk/README.md"), "js")[..1],
        "the SDK's first example"
    );

    // "The server prints three lines. Paste them into another terminal."
    let mut edge = Edge::start(EdgeConfig::embedded().unset("KEEPSTEP_JWT_SECRET").on_a_terminal()).await;
    edge.ready().await;
    let terminal = Terminal::with_examples(&mut edge).await;
    let minute = shell.iter().find(|block| block.contains("printf ")).expect("the block with curl");
    assert!(minute.contains(SAID));
    let mut block = terminal.types("curl", &minute.replace(SAID, &edge.url("")));
    let status = block.wait(PATIENCE).await;
    assert!(status.is_some_and(|status| status.success()), "{}", block.log());
    assert!(block.log().contains("\"content\":\"lunch?\""), "{}", block.log());
    assert!(block.log().contains("\"seq\":1}"), "{}", block.log());

    let mut phone = terminal.runs("phone", &line(&shell, "client.mjs main"));
    says(&phone, "#1 bob: lunch?").await;
    let mut web = terminal.runs("web", &line(&shell, "client.py sub"));
    says(&web, "#2 alice: at one").await;
    says(&phone, "#2 alice: at one").await;
    for said in ["#1 bob: lunch?", "#2 alice: at one"] {
        assert!(readme.contains(&format!("```\n{said}\n```")), "the README shows {said}");
    }

    // "Stop the phone, then the web session, and start the web session again."
    phone.terminate(Duration::from_secs(10)).await;
    web.terminate(Duration::from_secs(10)).await;
    let mut web = terminal.runs("web-again", &line(&shell, "client.py sub"));
    says(&web, "closed: 4303").await;
    // "… and comes in when the phone is back."
    let mut phone = terminal.runs("phone-again", &line(&shell, "client.mjs main"));
    says(&web, "#3 alice: at one").await;
    web.terminate(Duration::from_secs(10)).await;
    phone.terminate(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn the_quick_start_is_as_it_says() {
    let page = page("docs/quick-start.md");
    let (shell, js, python) = (blocks(&page, "sh"), blocks(&page, "js"), blocks(&page, "python"));
    assert_eq!((js.len(), python.len()), (1, 1));
    for (path, code) in [("docs/examples/client.mjs", &js[0]), ("docs/examples/client.py", &python[0])] {
        assert_eq!(*code, self::page(path), "{path} and the quick start differ");
    }
    let mut edge = Edge::start(EdgeConfig::embedded().unset("KEEPSTEP_JWT_SECRET").on_a_terminal()).await;
    edge.ready().await;
    let terminal = Terminal::with_examples(&mut edge).await;
    let shown = |said: &str| assert!(page.contains(&format!("```\n{said}\n```")), "the page shows {said}");

    let mut phone = terminal.runs("phone", &line(&shell, "client.mjs main \"hello Bob\""));
    says(&phone, "#1 alice: hello Bob").await;
    shown("#1 alice: hello Bob");
    let mut web = terminal.runs("web", &line(&shell, "client.mjs sub"));
    for device in [&phone, &web] {
        says(device, "#2 alice: and from the web").await;
    }
    shown("#2 alice: and from the web");
    phone.terminate(Duration::from_secs(10)).await;
    web.terminate(Duration::from_secs(10)).await;
    let bob = shell.iter().find(|block| block.contains("are you there?")).expect("what Bob does");
    let mut bob = terminal.types("bob", &bob.replace(SAID, &edge.url("")));
    assert!(bob.wait(PATIENCE).await.is_some_and(|status| status.success()), "{}", bob.log());
    let again: Vec<&str> =
        shell.iter().map(|block| block.trim()).filter(|block| block.ends_with("client.mjs main")).collect();
    assert_eq!(again.len(), 1, "one block starts the phone again");
    let mut phone = terminal.runs("phone-again", again[0]);
    says(&phone, "#3 bob: are you there?").await;
    shown("#3 bob: are you there?");

    let keepstep = env!("CARGO_BIN_EXE_keepstep");
    let admin = line(&shell, "keepstep admin devices").replace("target/release/keepstep", keepstep);
    let mut admin = terminal.types("admin", &admin);
    assert!(admin.wait(PATIENCE).await.is_some_and(|status| status.success()), "{}", admin.log());
    assert!(admin.log().contains("main") && admin.log().contains("sub"), "{}", admin.log());
    phone.terminate(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn either_language_is_a_phone_and_a_web_session() {
    let page = page("docs/quick-start.md");
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("client.mjs"), &blocks(&page, "js")[0]);
    write(&folder.path().join("client.py"), &blocks(&page, "python")[0]);
    let edge = Edge::start(EdgeConfig::embedded()).await;
    edge.ready().await;
    let token = crate::stories::client::user_token("alice");
    let exports = format!("export KEEPSTEP_TOKEN={token}");
    let terminal = Terminal { folder, edge: edge.url(""), exports };
    let mut phone = terminal.runs("python-phone", "python3 client.py main hello");
    says(&phone, "#1 alice: hello").await;
    let mut web = terminal.runs("js-web", "node --experimental-websocket client.mjs sub 'at last'");
    says(&web, "#2 alice: at last").await;
    says(&phone, "#2 alice: at last").await;
    web.terminate(Duration::from_secs(10)).await;
    phone.terminate(Duration::from_secs(10)).await;
}

fn page(path: &str) -> String {
    std::fs::read_to_string(repository(path)).expect(path)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("write an example");
}
