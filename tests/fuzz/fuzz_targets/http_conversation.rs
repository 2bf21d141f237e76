//! http_conversation: see `crewtap_core::wire::http::fuzz_http_conversation` for what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    crewtap_core::wire::http::fuzz_http_conversation(data);
});
