//! The examples of the Rust SDK, as they stand, against a server.

#[expect(dead_code, reason = "here it isn't a program")]
#[path = "../../client/examples/phone.rs"]
mod phone;
#[expect(dead_code, reason = "here it isn't a program")]
#[path = "../../client/examples/web.rs"]
mod web;

use crate::stories::client::{soon, user_token};
use crate::support::{Edge, EdgeConfig};

#[tokio::test]
async fn a_phone_and_a_web_session_are_in_step() {
    let edge = Edge::start(EdgeConfig::embedded()).await;
    edge.ready().await;
    let (url, token) = (edge.url(""), user_token("alice"));
    let phone = {
        let (url, token) = (url.clone(), token.clone());
        // (What it says of an end is an error of any kind, which can't change threads.)
        async move { phone::run(&url, &token, "bob", "hello Bob").await.map_err(|error| error.to_string()) }
    };
    let web = async {
        // The phone is there when its first message is.
        let api = keepstep_client::Api::new(&url).expect("an address").with_token(&token);
        while !api.chats().await.expect("chats").iter().any(|chat| chat.head > 0) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        web::run(&url, &token, "and from the web").await.map_err(|error| error.to_string())
    };
    tokio::select! {
        ended = phone => panic!("the phone stopped: {ended:?}"),
        shown = soon("the web session", web) => {
            assert_eq!(shown, Ok(vec!["#1 alice: hello Bob".to_owned(), "#2 alice: and from the web".to_owned()]));
        }
    }
}
