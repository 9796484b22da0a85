//! `epoq_fuzz::query`, driven by libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| epoq_fuzz::query(bytes));
