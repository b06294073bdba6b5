//! Mapping files into memory: the one place of this crate that needs `unsafe`.
#![expect(unsafe_code, reason = "memmap2 cannot prove that nobody else changes the file")]

use std::{fs::File, ops::Deref, path::Path};

use memmap2::{Mmap, UncheckedAdvice};

use crate::{
    error::{Context, Result},
    fail,
};

/// A file in memory.
pub(crate) struct Mapping {
    map: Mmap,
    /// Where [`say_what_was_cut`] finds it.
    #[cfg(target_os = "linux")]
    place: Option<usize>,
}

/// Maps a whole file for reading.
pub(crate) fn map(path: &Path) -> Result<Mapping> {
    if path.is_dir() {
        fail!(Argument, "{}: is a folder; name a file in it", path.display());
    }
    let file = File::open(path).at(|| path.display().to_string())?;
    // SAFETY: the mapping is read-only and is only ever seen as bytes, for which every pattern is valid. A process
    // that truncates the file meanwhile makes this one end with SIGBUS; model files and cache entries are replaced
    // by renaming, never changed in place.
    let map = unsafe { Mmap::map(&file) }.at(|| path.display().to_string())?;
    Ok(Mapping {
        #[cfg(target_os = "linux")]
        place: cut::note(&map, path),
        map,
    })
}

/// Gives the physical pages of `map[range]` back; they are read from the file again when touched.
pub(crate) fn forget(mapping: &Mapping, offset: usize, len: usize) {
    // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back with the same bytes.
    // A refusal only means that the pages stay.
    let _ = unsafe { mapping.map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, len) };
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        self.place.into_iter().for_each(cut::strike);
    }
}

/// Makes this process say which file was cut while it was read, and end with exit code 1, where it would end with a
/// signal and without a word. For programs; a library leaves signals to whoever uses it.
pub fn say_what_was_cut() {
    #[cfg(target_os = "linux")]
    cut::listen();
}

/// What a mapped file does that another process has cut: touching what is gone is SIGBUS, in the thread that did it.
#[cfg(target_os = "linux")]
mod cut {
    use std::{
        path::Path,
        ptr,
        sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering},
    };

    /// A mapping, in a form that a signal handler may look at: no lock, no memory to ask for.
    struct Place {
        /// Its first address, or 0 if the place is free.
        start: AtomicUsize,
        end: AtomicUsize,
        /// The file's name for messages.
        name: AtomicPtr<String>,
    }

    /// More mappings at a time than programs have; others are told without their name.
    const PLACES: usize = 256;

    static PLACES_OF_MAPPINGS: [Place; PLACES] = [const {
        Place { start: AtomicUsize::new(0), end: AtomicUsize::new(0), name: AtomicPtr::new(ptr::null_mut()) }
    }; PLACES];

    /// True once a thread tells of it: several may touch what is gone at the same time.
    static TOLD: AtomicBool = AtomicBool::new(false);

    /// Notes a mapping, if there is a free place for it.
    pub(super) fn note(bytes: &[u8], path: &Path) -> Option<usize> {
        let start = bytes.as_ptr().addr();
        let free = |place: &Place| place.start.compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let index = PLACES_OF_MAPPINGS.iter().position(free)?;
        let name = path.display().to_string().replace(char::is_control, "?");
        let place = &PLACES_OF_MAPPINGS[index];
        place.name.store(Box::into_raw(Box::new(name)), Ordering::Release);
        place.end.store(start + bytes.len(), Ordering::Release);
        Some(index)
    }

    /// Forgets a mapping that is about to go.
    pub(super) fn strike(index: usize) {
        let place = &PLACES_OF_MAPPINGS[index];
        place.end.store(0, Ordering::Release);
        let name = place.name.swap(ptr::null_mut(), Ordering::AcqRel);
        if !name.is_null() {
            // SAFETY: the pointer came from `Box::into_raw` in `note`, and the swap handed it out once. A handler that
            // reads it runs in a thread that touches the mapping, which therefore is not about to go.
            drop(unsafe { Box::from_raw(name) });
        }
        place.start.store(0, Ordering::Release);
    }

    pub(super) fn listen() {
        // SAFETY: the structure is plain data for which zero is a value, the handler has the signature that SA_SIGINFO
        // asks for, and it does only what a handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = say;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO;
            // A refusal leaves the usual effect.
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut());
        }
    }

    /// The handler: one line and the end, or the usual effect if no mapping of ours is the cause.
    extern "C" fn say(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the system hands out a valid description of the signal; a fault has an address.
        let at = unsafe { (*info).si_addr() }.addr();
        let covers =
            |place: &&Place| place.start.load(Ordering::Acquire) <= at && at < place.end.load(Ordering::Acquire);
        let Some(place) = PLACES_OF_MAPPINGS.iter().find(covers) else {
            // SAFETY: both are functions that a handler may call; the fault comes again and has its usual effect.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            return;
        };
        while TOLD.swap(true, Ordering::AcqRel) {
            // SAFETY: waiting is what a handler may do; the thread that came first ends the process.
            unsafe { libc::pause() };
        }
        // SAFETY: the name lives as long as the mapping, which this thread was about to read.
        let name = unsafe { place.name.load(Ordering::Acquire).as_ref() }.map_or("a model file", String::as_str);
        for part in
            ["error: ", name, ": was cut or cannot be read while it is in use; restore the file and try again\n"]
        {
            // SAFETY: the bytes are there, and writing is what a handler may do; nobody is left to tell of a failure.
            unsafe { libc::write(2, part.as_ptr().cast(), part.len()) };
        }
        // SAFETY: it ends the process and runs nothing of it.
        unsafe { libc::_exit(1) };
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::io::Write;

        #[test]
        fn mappings_are_found_by_address_as_long_as_they_live() {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&[7; 5000]).unwrap();
            let mapping = super::super::map(file.path()).unwrap();
            let at = mapping.as_ptr().addr() + 4999;
            let find = || {
                PLACES_OF_MAPPINGS
                    .iter()
                    .any(|place| place.start.load(Ordering::Acquire) <= at && at < place.end.load(Ordering::Acquire))
            };
            assert!(mapping.place.is_some() && find());
            drop(mapping);
            assert!(!find());
        }
    }
}
