//! Tests that need nothing but this repository: the contracts over the embedded variants, the command itself, and the
//! stories over the embedded server.

#[path = "../history/mod.rs"]
mod history;
#[path = "../stories/mod.rs"]
mod stories;
#[path = "../support/mod.rs"]
mod support;

mod broker;
mod checker;
mod cli;
mod cli_console;
mod closed;
mod codes;
mod console_size;
mod demo;
mod documents;
mod floors;
mod many;
mod metrics;
mod proxy;
mod sdk;
mod shape;
mod store;

/// What both deployments promise, over one process.
mod on_one_process {
    crate::stories!(crate::stories::Deployment::Embedded);

    mod playground {
        #[tokio::test]
        async fn a_device_moves_to_the_playgrounds_second_edge() {
            crate::stories::pages::a_device_moves_to_the_playgrounds_second_edge().await;
        }

        #[tokio::test]
        async fn a_playground_without_a_secret_is_refused() {
            crate::stories::pages::a_playground_without_a_secret_is_refused().await;
        }
    }

    mod start {
        #[tokio::test]
        async fn half_a_deployment_is_refused() {
            crate::stories::start::half_a_deployment_is_refused().await;
        }

        #[tokio::test]
        async fn a_short_secret_is_refused() {
            crate::stories::start::a_short_secret_is_refused().await;
        }

        #[tokio::test]
        async fn bad_addresses_and_numbers_are_refused() {
            crate::stories::start::bad_addresses_and_numbers_are_refused().await;
        }
    }
}
