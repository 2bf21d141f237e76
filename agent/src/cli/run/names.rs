//! Names that are looked up by somebody else on the program's behalf, over a unix socket: the question is not
//! asked by a captured process, so the record cannot name the addresses.

use std::path::Path;

/// Name services of `nsswitch.conf` that ask over a unix socket, and the socket that must be there.
const SERVICES: [(&str, &str, &str); 5] = [
    ("resolve", "/run/systemd/resolve/io.systemd.Resolve", "systemd-resolved"),
    ("mdns", "/run/avahi-daemon/socket", "avahi-daemon"),
    ("sss", "/var/lib/sss/pipes/nss", "sssd"),
    ("lwres", "/run/lwresd/lwresd.sock", "lwresd"),
    ("winbind", "/run/samba/winbindd/pipe", "winbindd"),
];

/// glibc asks it before anything that `nsswitch.conf` says.
const NSCD: [&str; 2] = ["/var/run/nscd/socket", "/run/nscd/socket"];

/// A sentence for the user, when lookups bypass the capture.
pub(super) fn note() -> Option<String> {
    let nsswitch = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let through = unix_lookups(&nsswitch, |path| Path::new(path).exists());
    (!through.is_empty()).then(|| {
        format!(
            "host names are looked up through {} over a unix socket, which is not captured: \
             addresses in the record may lack their names",
            through.join(" and ")
        )
    })
}

fn unix_lookups(nsswitch: &str, exists: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut found = Vec::new();
    if NSCD.iter().any(|socket| exists(socket)) {
        found.push("nscd");
    }
    let hosts = nsswitch.lines().find_map(|line| line.trim_start().strip_prefix("hosts:")).unwrap_or_default();
    let hosts = hosts.split('#').next().unwrap_or_default();
    for word in hosts.split_ascii_whitespace() {
        for (service, socket, name) in SERVICES {
            // mdns comes as mdns, mdns4, mdns4_minimal …
            let named = word == service || (service == "mdns" && word.starts_with(service));
            if named && exists(socket) && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_services_that_are_configured_and_there_are_named() {
        let ubuntu = "passwd: files sss\n hosts: files mdns4_minimal [NOTFOUND=return] resolve dns # sss\n";
        let all = |_: &str| true;
        assert_eq!(unix_lookups(ubuntu, all), ["nscd", "avahi-daemon", "systemd-resolved"]);
        assert_eq!(unix_lookups(ubuntu, |path| path.contains("resolve")), ["systemd-resolved"]);
        assert_eq!(unix_lookups("hosts: files dns\n", |path| !path.contains("nscd")), [""; 0]);
    }
}
