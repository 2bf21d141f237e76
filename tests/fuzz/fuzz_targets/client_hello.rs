//! client_hello: see `crewtap_core::wire::tls::fuzz_client_hello` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::tls::fuzz_client_hello(data);
});
