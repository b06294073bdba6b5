//! Any bytes as a PNG and as the text of one: an error or a whole picture, in time and memory of the file.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use ondine_image::{codec::Picture, infotext::Infotext};

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        read_text(text);
    }
    let Ok(picture) = Picture::read_png(Cursor::new(data)) else { return };
    assert_eq!(picture.rgb.len(), 3 * picture.width as usize * picture.height as usize);
    picture.texts.iter().for_each(|(_, text)| read_text(text));
    let mut written = Vec::new();
    // A text that was read may hold what PNG cannot keep.
    if picture.write_png(&mut written).is_ok() {
        let again = Picture::read_png(Cursor::new(&written)).expect("what was written is a picture");
        assert_eq!((again.width, again.height, again.rgb), (picture.width, picture.height, picture.rgb));
    }
});

/// Reads a text as what a picture was made by, and what is written of that.
fn read_text(text: &str) {
    let found = Infotext::parse(text);
    let _ = Infotext::parse(&found.to_string());
}
