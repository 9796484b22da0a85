//! `epoq_fuzz::json`, driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| epoq_fuzz::json(bytes));
