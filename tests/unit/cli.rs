use super::*;
use crate::config::{Backend, Limits, ServerConfig, Timing};

fn parsed(arguments: &[&str]) -> Result<Cli, clap::Error> {
    parse(std::iter::once("keepstep").chain(arguments.iter().copied()).map(OsString::from))
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_meant_when_no_command_is_said() {
    for arguments in [&[][..], &["--listen", "127.0.0.1:1"], &["serve", "--lease=3s"]] {
        assert!(matches!(parsed(arguments).map(|cli| cli.command), Ok(Command::Serve(_))), "{arguments:?}");
    }
    assert!(parsed(&["srve"]).is_err());
}

#[test]
fn the_flags_default_to_what_the_structs_say() {
    let Ok(Command::Serve(args)) = parsed(&[]).map(|cli| cli.command) else { panic!("not serve") };
    let config = args.into_config().unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timing, Timing::default());
    let (server, same) = (config.server, ServerConfig::default());
    assert_eq!(server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(server.ops_listen.to_string(), "127.0.0.1:8081");
    assert_eq!(server.allowed_origins, same.allowed_origins);
    assert_eq!(server.max_connections, same.max_connections);
    assert_eq!(server.max_connections_per_ip, same.max_connections_per_ip);
    assert_eq!(server.new_connections_per_ip, same.new_connections_per_ip);
    assert_eq!(server.header_timeout, same.header_timeout);
    assert_eq!(server.max_header_bytes, same.max_header_bytes);
    assert!(matches!(config.backend, Backend::Embedded));
    assert!(config.tokens.generated);
    assert!(config.edge.starts_with("e-") && config.edge.len() == 10, "{}", config.edge);
}
