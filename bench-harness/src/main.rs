//! `epoq-bench`: see the library of the same name, or `epoq-bench --help`.

use std::{ffi::c_long, process::ExitCode, sync::OnceLock};

use epoq_bench::{
    cli::Cli,
    command::{self, Error, Verdict},
    memory,
    suite::stop,
};

#[global_allocator]
static ALLOCATOR: memory::Counting<mimalloc::MiMalloc> = memory::Counting {
    allocator: mimalloc::MiMalloc,
    block_bytes,
};

/// # Safety
/// mimalloc gave it out.
unsafe fn block_bytes(memory: *const u8) -> usize {
    // SAFETY: the caller's promise.
    unsafe { libmimalloc_sys::mi_usable_size(memory.cast()) }
}

fn main() -> ExitCode {
    memory::set_counting();
    memory::set_purge(|| {
        // SAFETY: mimalloc allows it at any time, from any thread.
        unsafe { libmimalloc_sys::mi_collect(true) }
    });
    memory::set_keeping(|is_kept| {
        /// `mi_option_purge_delay`, which the bindings do not name: milliseconds, -1 for never.
        const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
        /// What it is unless it is told.
        static USUAL: OnceLock<c_long> = OnceLock::new();
        // SAFETY: an option that there is may be read at any time.
        let usual = *USUAL.get_or_init(|| unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) });
        // SAFETY: or set.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, if is_kept { -1 } else { usual }) }
    });
    match command::execute(Cli::parse_line(std::env::args_os())) {
        Ok(Verdict::Verified) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::from(1),
        Ok(Verdict::Regressed) => ExitCode::from(4),
        Ok(Verdict::Interrupted) => ExitCode::from(stop::EXIT_CODE),
        Err(Error::Usage(message)) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
        Err(Error::Broken(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(3)
        }
    }
}
