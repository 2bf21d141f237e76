//! Whose connection it was: the facts that the record has of a connecting process.

use crewtap_tests::host::{Host, succeeded};
use crewtap_tests::peer::Peer;

use crate::rows::Rows;

/// Programs of one process, one after another.
const CHAIN: usize = 200;

#[test]
fn each_program_of_a_process_has_its_own_connections() {
    let host = Host::new();
    let echo = Peer::echo(&host, "127.0.0.1:0");
    let last = CHAIN - 1;
    // Redis: a protocol that is known by its first bytes and passes as it is.
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{}; printf '*1\\r\\n$4\\r\\nPING\\r\\n' >&3; read -u 3 said; [ \"$said\" = $'*1\\r' ] || exit 1
[ $1 = {last} ] || exec bash -c \"$0\" \"$0\" $(($1 + 1))",
        echo.port()
    );
    let _ = succeeded(&host.run(&["bash", "-c", &script, &script, "0"]));
    let rows = Rows::of_last_run(&host);
    rows.reconciled(CHAIN as u64);
    for (number, session) in rows.table("sessions").into_iter().enumerate() {
        let process = &session["process"];
        assert_eq!(process["argv"].as_array().unwrap().last().unwrap(), &number.to_string(), "{process}");
        assert!(process.get("missing").is_none(), "{process}");
    }
}
