//! Memory from the system that says so when there is none: one line and exit code 1, as for every other failure, where
//! Rust ends the process with a signal.
//!
//! The libraries ask for what is large (weights, workspaces, tensors) in a way that may fail, and return an error that
//! says more. This is for all the rest.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    io::Write,
    sync::atomic::{AtomicBool, Ordering},
};

use ondine_graph::memory_may_be_refused;

/// The system's memory.
pub(crate) struct Told;

// SAFETY: every call is handed on to the system's allocator as it is, and its answer is handed back.
unsafe impl GlobalAlloc for Told {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what is asked for.
        told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what is asked for.
        told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises what is asked for.
        told(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller promises what is asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The memory, if there is some or the caller can do without.
fn told(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() && !memory_may_be_refused() {
        end(bytes);
    }
    memory
}

/// Says that there is no memory and ends the process, which takes none: no buffer, no lock, nothing that is run at the
/// end of a process.
#[cold]
fn end(bytes: usize) -> ! {
    static SAID: AtomicBool = AtomicBool::new(false);
    while SAID.swap(true, Ordering::Relaxed) {
        // Another thread is saying so, and ends this one, too.
        std::hint::spin_loop();
    }
    let mut line = [0; 200];
    let mut rest = &mut line[..];
    let text = "more memory: the limit of this process or machine is reached; \
        try --precision bf16, fewer pixels or smaller inputs";
    // The line is long enough.
    let _ = writeln!(rest, "error: the system does not give {bytes} bytes of {text}");
    let left = rest.len();
    let line = &line[..line.len() - left];
    #[cfg(unix)]
    // SAFETY: the bytes are there, and both calls may be made at any time.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
        libc::_exit(1)
    }
    #[cfg(not(unix))]
    {
        let _ = std::io::stderr().write_all(line);
        std::process::exit(1)
    }
}
