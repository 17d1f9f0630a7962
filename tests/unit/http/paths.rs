use super::*;

#[test]
fn a_path_is_shown_without_what_it_is_about() {
    for (path, shown) in [
        ("/v1/chats", "/v1/chats"),
        ("/v1/chats/join", "/v1/chats/join"),
        ("/v1/chats/0b1c2d3e", "/v1/chats/{id}"),
        ("/v1/chats/0b1c2d3e/members/alice", "/v1/chats/{id}/members/{user}"),
        ("/v1/links/AB12-CD34", "/v1/links/{which}"),
        ("/", "/"),
        ("/sdk/keepstep.js", OTHER),
        ("/v1/chats/", OTHER),
        ("/v1/chats/a/messages/b", OTHER),
        ("example.org:443", OTHER),
        ("", OTHER),
    ] {
        assert_eq!(template(path), shown, "{path}");
    }
}

#[test]
fn every_call_of_the_contract_is_known() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.yaml");
    let document = std::fs::read_to_string(document).expect("the contract");
    let paths = document.split_once("\npaths:\n").expect("paths").1.split("\ncomponents:").next();
    let paths = paths.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("  /"));
    let calls: Vec<String> = paths.map(|path| format!("/{}", path.trim_end_matches(':'))).collect();
    assert!(calls.len() > 30, "{calls:?}");
    for call in calls {
        assert_eq!(template(&call), call);
    }
}
