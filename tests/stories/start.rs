//! Conflicting settings are refused before anything runs, with a sentence that says what to do. These stories need no
//! deployment.

use crate::support::{Edge, EdgeConfig};

/// Starts an edge with these settings, which must be refused with all of these words.
pub async fn refused(config: EdgeConfig, words: &[&str]) {
    let (status, said) = Edge::refused(config).await;
    assert!(!status.success(), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} isn't in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

pub async fn half_a_deployment_is_refused() {
    let config = EdgeConfig::embedded().set("KEEPSTEP_REDIS_URL", "redis://127.0.0.1:1/");
    refused(config, &["KEEPSTEP_REDIS_URL", "KEEPSTEP_NSQD"]).await;
    let config = EdgeConfig::embedded().set("KEEPSTEP_NSQD", "127.0.0.1:1");
    refused(config, &["KEEPSTEP_REDIS_URL", "KEEPSTEP_NSQD"]).await;
}

pub async fn a_short_secret_is_refused() {
    let short = "0123456789";
    let config = EdgeConfig::embedded().set("KEEPSTEP_JWT_SECRET", short);
    let (status, said) = Edge::refused(config).await;
    assert!(!status.success() && said.contains("KEEPSTEP_JWT_SECRET") && said.contains("32"), "{said}");
    assert!(!said.contains(short), "a secret is printed: {said}");
    let config = EdgeConfig::embedded().set("KEEPSTEP_TOKEN_SECRET", short);
    refused(config, &["KEEPSTEP_TOKEN_SECRET", "32"]).await;
}

pub async fn bad_addresses_and_numbers_are_refused() {
    let both = |redis: &str, nsqd: &str| {
        EdgeConfig::embedded().set("KEEPSTEP_REDIS_URL", redis).set("KEEPSTEP_NSQD", nsqd)
    };
    refused(both("127.0.0.1:6379", "127.0.0.1:4151"), &["KEEPSTEP_REDIS_URL"]).await;
    refused(both("redis://127.0.0.1:6379", "127.0.0.1"), &["KEEPSTEP_NSQD"]).await;
    refused(both("redis://127.0.0.1:6379", "tcp://127.0.0.1:4150/x"), &["KEEPSTEP_NSQD"]).await;
    refused(EdgeConfig::embedded().set("KEEPSTEP_HEARTBEAT", "soon"), &["heartbeat"]).await;
    for misspelt in ["ifno", "debug,keepstep", "info,wrn"] {
        refused(EdgeConfig::embedded().set("KEEPSTEP_LOG", misspelt), &["KEEPSTEP_LOG", "is no level"]).await;
    }
    refused(EdgeConfig::embedded().set("KEEPSTEP_LEASE", "1s"), &["KEEPSTEP_LEASE"]).await;
    refused(
        EdgeConfig::embedded().set("KEEPSTEP_ALLOWED_ORIGINS", "chat.example"),
        &["KEEPSTEP_ALLOWED_ORIGINS"],
    )
    .await;
}
