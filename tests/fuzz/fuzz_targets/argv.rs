//! argv: see `crewtap_core::mask::argv::fuzz_argv` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::mask::argv::fuzz_argv(data);
});
