//! Ctrl-C: the first ends the measuring and keeps what there is, the second ends the process.

use std::{
    process,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

static IS_STOPPED: AtomicBool = AtomicBool::new(false);

/// What a shell expects of a process that Ctrl-C ended.
pub const EXIT_CODE: u8 = 130;

/// Takes over Ctrl-C. Where the system does not let it, Ctrl-C ends the process as ever.
pub fn listen() {
    let listening = ctrlc::set_handler(|| {
        // Relaxed: a lone flag.
        if IS_STOPPED.swap(true, Relaxed) {
            process::exit(EXIT_CODE.into());
        }
        eprintln!("\nstopping: what was measured is kept; once more to end at once");
    });
    if let Err(error) = listening {
        eprintln!("Ctrl-C will keep nothing here: {error}");
    }
}

/// Whether Ctrl-C was pressed.
pub fn is_asked_for() -> bool {
    IS_STOPPED.load(Relaxed)
}
