//! The load balancer with the shipped configuration (`scripts/haproxy`).

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::Edge;
use super::daemon::{Daemon, Ready, daemon};
use super::net::free_port;
use super::process::{Process, program, repository, temp_folder};

const ENDING: Duration = Duration::from_secs(35);

/// A load balancer in front of an edge. The admins' side has no TLS; the clients' side may have it.
#[derive(Debug)]
pub struct Haproxy {
    daemon: Daemon,
    clients: u16,
    admins: u16,
}

daemon!(Haproxy);

impl Haproxy {
    /// Starts one with its own variables; one of these is a second edge.
    pub async fn start(edge: &Edge, settings: &[(&str, &str)]) -> Haproxy {
        Daemon::start(|| Haproxy::describe(edge, settings, false)).await
    }

    /// Starts one that terminates TLS, with a certificate by `make-cert`.
    pub async fn start_with_tls(edge: &Edge) -> Haproxy {
        Daemon::start(|| Haproxy::describe(edge, &[], true)).await
    }

    /// `127.0.0.1:port` of clients.
    pub fn clients(&self) -> String {
        format!("127.0.0.1:{}", self.clients)
    }

    /// `127.0.0.1:port` of admins.
    pub fn admins(&self) -> String {
        format!("127.0.0.1:{}", self.admins)
    }

    fn describe(edge: &Edge, settings: &[(&str, &str)], tls: bool) -> Haproxy {
        let program = match std::path::Path::new("/usr/sbin/haproxy") {
            // Debian puts it where only root looks.
            debian if debian.is_file() && std::env::var_os("KEEPSTEP_HAPROXY_BIN").is_none() => debian.into(),
            _ => program("KEEPSTEP_HAPROXY_BIN", "haproxy"),
        };
        let (clients, admins, folder) = (free_port(), free_port(), temp_folder("haproxy"));
        let mut bind = format!("127.0.0.1:{clients}");
        if tls {
            let made = Command::new(repository("scripts/haproxy/make-cert")).arg(folder.path()).output();
            let made = made.expect("run make-cert");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            bind = format!("{bind} ssl crt {}", folder.path().join("keepstep.pem").display());
        }
        let mut env: BTreeMap<String, String> = [
            ("BIND", bind),
            ("ADMIN_BIND", format!("127.0.0.1:{admins}")),
            ("EDGE_1", edge.listen()),
            // Nobody is there.
            ("EDGE_2", "127.0.0.1:1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let process = Process::new("haproxy", program, folder.path().join("haproxy.log"))
            .arg("-db")
            .arg("-f")
            .arg(repository("scripts/haproxy/haproxy.cfg"))
            .env(env);
        let ready = Ready::Ok(format!("127.0.0.1:{admins}"), "/sdk/keepstep.js");
        Haproxy { daemon: Daemon::new(process, folder, ready, ENDING), clients, admins }
    }
}
