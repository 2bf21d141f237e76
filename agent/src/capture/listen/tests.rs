#![allow(clippy::unwrap_used)]

use super::syn_sequence;

#[test]
fn the_sequence_number_of_a_syn() {
    // 24 bytes of IPv4 (with one option word), then TCP.
    let mut v4 = vec![0x46; 24];
    v4.extend([0x9c, 0x41, 0x11, 0x5b, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0]);
    assert_eq!(syn_sequence(&v4), Some(0xdead_beef));
    let mut v6 = vec![0; 40];
    v6.splice(0..7, [0x60, 0, 0, 0, 0, 20, 6]);
    v6.extend([0, 1, 0, 2, 1, 2, 3, 4]);
    assert_eq!(syn_sequence(&v6), Some(0x0102_0304));
    v6.splice(6..7, [43]);
    assert_eq!(syn_sequence(&v6), None, "a routing header");
    for cut in 0..v4.len() - 4 {
        let _ = syn_sequence(v4.get(..cut).unwrap());
    }
    assert_eq!(syn_sequence(&[]), None);
    assert_eq!(syn_sequence(v4.get(..30).unwrap()), None);
}
