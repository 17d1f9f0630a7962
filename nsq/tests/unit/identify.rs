use super::*;

#[test]
fn identify_says_milliseconds_and_leaves_out_what_is_default() {
    let options = ConnectOptions { heartbeat: Duration::from_secs(1), ..ConnectOptions::default() };
    let json: serde_json::Value =
        serde_json::from_slice(&identify_json(&options, Wishes::default()).unwrap()).unwrap();
    assert_eq!(json["heartbeat_interval"], 1000);
    assert_eq!(json["tls_v1"], false);
    assert!(json.get("msg_timeout").is_none() && json.get("output_buffer_size").is_none());
    let wishes = Wishes { msg_timeout: Some(Duration::from_secs(2)), unbuffered: true };
    let json: serde_json::Value = serde_json::from_slice(&identify_json(&options, wishes).unwrap()).unwrap();
    assert_eq!((json["msg_timeout"].as_u64(), json["output_buffer_size"].as_i64()), (Some(2000), Some(-1)));
}

#[test]
fn secrets_stay_out_of_debug() {
    let options = ConnectOptions { auth_secret: Some("hunter2".into()), ..ConnectOptions::default() };
    assert!(!format!("{options:?}").contains("hunter2"));
}
