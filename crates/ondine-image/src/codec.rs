//! Pictures as bytes and files: rounding to 8 bits, PNG with its text, other formats.

mod exif;
pub mod format;
pub mod read;

use std::io::{BufRead, Seek, Write};

use ondine_graph::{Error, ErrorKind, Result, fail};

/// The PNG text keyword under which A1111 and its kin keep the [infotext](crate::infotext).
pub const PARAMETERS: &str = "parameters";

/// Most memory that reading one PNG may take.
const DECODE_LIMIT: usize = 1 << 30;

/// An 8-bit RGB picture, with the texts of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width` pixels of red, green, blue, row by row.
    pub rgb: Vec<u8>,
    /// PNG text chunks: keyword and text, in the order of the file for each kind of chunk.
    pub texts: Vec<(String, String)>,
}

impl Picture {
    /// Rounds planes of red, green and blue, `[3, height, width]` in 0..1, to bytes.
    ///
    /// As diffusers does: `(x * 255)` rounded half to even, clamped.
    ///
    /// # Errors
    /// A length other than `3 * height * width`, no pixels, or a value that is not a number: such a
    /// picture must not pass for a black one.
    pub fn from_planes(planes: &[f32], width: u32, height: u32) -> Result<Self> {
        let pixels = pixels(width, height)?;
        if planes.len() != 3 * pixels {
            fail!(Shape, "{} values are not a {width}x{height} picture; give {}", planes.len(), 3 * pixels);
        }
        if planes.iter().any(|value| value.is_nan()) {
            fail!(Format, "the picture holds values that are not numbers; the model overflowed: use a wider precision");
        }
        let rgb =
            (0..pixels).flat_map(|pixel| [0, 1, 2].map(|plane| to_byte(planes[plane * pixels + pixel]))).collect();
        Ok(Self { width, height, rgb, texts: Vec::new() })
    }

    /// The same picture with one more text, such as [`PARAMETERS`].
    #[must_use]
    pub fn with_text(mut self, keyword: &str, text: impl Into<String>) -> Self {
        self.texts.push((keyword.to_owned(), text.into()));
        self
    }

    /// The text under a keyword.
    #[must_use]
    pub fn text(&self, keyword: &str) -> Option<&str> {
        self.texts.iter().find(|(key, _)| key == keyword).map(|(_, text)| text.as_str())
    }

    /// Refuses pixels that do not match the size.
    fn check(&self) -> Result<()> {
        let Self { width, height, rgb, .. } = self;
        if rgb.len() != 3 * pixels(*width, *height)? {
            fail!(Shape, "{} bytes are not a {width}x{height} picture; give 3 for each pixel", rgb.len());
        }
        Ok(())
    }

    /// Writes a PNG; each text as `tEXt` where it fits Latin-1, else as `iTXt`, before the pixels.
    ///
    /// # Errors
    /// Pixels that do not match the size, a text with a NUL character, a keyword outside 1 to 79
    /// Latin-1 characters, or a writer that fails.
    pub fn write_png(&self, out: impl Write) -> Result<()> {
        self.check()?;
        let mut encoder = png::Encoder::new(out, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // A tenth of the time for a few percent of the size.
        encoder.set_compression(png::Compression::Fast);
        for (keyword, text) in &self.texts {
            if text.contains('\0') {
                fail!(Argument, "the text {keyword:?} holds a NUL character, which PNG cannot; leave it out");
            }
            let latin = text.chars().all(|c| u32::from(c) < 256);
            let added = if latin {
                encoder.add_text_chunk(keyword.clone(), text.clone())
            } else {
                encoder.add_itxt_chunk(keyword.clone(), text.clone())
            };
            added.map_err(encoding)?;
        }
        let mut writer = encoder.write_header().map_err(encoding)?;
        writer.write_image_data(&self.rgb).map_err(encoding)?;
        writer.finish().map_err(encoding)
    }

    /// Reads a PNG of any colour type, with its texts; transparency is dropped.
    ///
    /// # Errors
    /// A file that is not a PNG, is damaged, or needs more than 1 GiB.
    pub fn read_png(input: impl BufRead + Seek) -> Result<Self> {
        let limits = png::Limits { bytes: DECODE_LIMIT };
        let mut decoder = png::Decoder::new_with_limits(input, limits);
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info().map_err(decoding)?;
        check_palette(reader.info())?;
        let Some(size) = reader.output_buffer_size().filter(|&size| size <= DECODE_LIMIT) else {
            fail!(Memory, "the PNG needs more than 1 GiB; give a smaller picture");
        };
        let mut bytes = vec![0; size];
        let frame = reader.next_frame(&mut bytes).map_err(decoding)?;
        bytes.truncate(frame.buffer_size());
        // Texts may stand behind the pixels.
        reader.finish().map_err(decoding)?;
        let channels = frame.color_type.samples();
        let pixel = |p: &[u8]| if channels < 3 { [p[0]; 3] } else { [p[0], p[1], p[2]] };
        let rgb = bytes.chunks_exact(channels).flat_map(pixel).collect();
        let texts = texts(reader.info());
        Ok(Self { width: frame.width, height: frame.height, rgb, texts })
    }
}

/// Makes sure that a palette is whole colours: readers rely on it.
fn check_palette(info: &png::Info<'_>) -> Result<()> {
    match &info.palette {
        Some(palette) if !palette.len().is_multiple_of(3) => {
            fail!(Format, "the palette of the PNG is cut: {} bytes are no whole colours", palette.len())
        }
        _ => Ok(()),
    }
}

/// Half to even, as numpy rounds.
fn to_byte(value: f32) -> u8 {
    (value * 255.0).round_ties_even().clamp(0.0, 255.0) as u8
}

fn pixels(width: u32, height: u32) -> Result<usize> {
    let pixels = usize::try_from(u64::from(width) * u64::from(height)).unwrap_or(0);
    if pixels == 0 || pixels > DECODE_LIMIT / 3 {
        fail!(Argument, "a {width}x{height} picture cannot be made; give sides above 0 and fewer pixels");
    }
    Ok(pixels)
}

fn texts(info: &png::Info<'_>) -> Vec<(String, String)> {
    let plain = info.uncompressed_latin1_text.iter();
    let mut texts: Vec<_> = plain.map(|text| (text.keyword.clone(), text.text.clone())).collect();
    for text in &info.compressed_latin1_text {
        texts.extend(text.get_text().ok().map(|value| (text.keyword.clone(), value)));
    }
    for text in &info.utf8_text {
        texts.extend(text.get_text().ok().map(|value| (text.keyword.clone(), value)));
    }
    texts
}

fn encoding(error: png::EncodingError) -> Error {
    match error {
        png::EncodingError::IoError(error) => Error::from(error).at("the PNG cannot be written"),
        error => Error::new(ErrorKind::Format, format!("the PNG cannot be written: {error}")),
    }
}

fn decoding(error: png::DecodingError) -> Error {
    let kind = match error {
        png::DecodingError::IoError(error) => return Error::from(error).at("the PNG cannot be read"),
        png::DecodingError::LimitsExceeded => ErrorKind::Memory,
        _ => ErrorKind::Format,
    };
    Error::new(kind, format!("the PNG cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn written(picture: &Picture) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture.write_png(&mut bytes).expect("a valid picture");
        bytes
    }

    fn small() -> Picture {
        let planes: Vec<f32> = (0..3 * 4 * 2).map(|i| i as f32 / 23.0).collect();
        Picture::from_planes(&planes, 4, 2).expect("a picture")
    }

    #[test]
    fn rounding_is_half_to_even() {
        // 127.5 and 76.5 in float32.
        assert_eq!((to_byte(0.5), to_byte(0.3)), (128, 76));
        assert_eq!((to_byte(-0.1), to_byte(1.1)), (0, 255));
    }

    #[test]
    fn a_palette_that_is_cut_is_refused() {
        for (bytes, whole) in [(49, false), (48, true), (1, false), (2, false), (3, true), (47, false)] {
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(&mut file, 3, 2);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_depth(png::BitDepth::Four);
            encoder.set_palette(vec![7; bytes]);
            encoder.set_trns(vec![0]);
            encoder.write_header().unwrap().write_image_data(&[0; 4]).unwrap();
            assert_eq!(Picture::read_png(Cursor::new(&file)).is_ok(), whole, "{bytes}");
            assert_eq!(Picture::read(&file).is_ok(), whole, "{bytes}");
        }
    }

    #[test]
    fn pixels_and_texts_come_back() {
        for text in ["plain, \"quoted\"\nSteps: 20", "café ÿ", "猫 🐱\nline", ""] {
            let picture = small().with_text(PARAMETERS, text);
            let bytes = written(&picture);
            let chunk: &[u8] = if text.contains('猫') { b"iTXt" } else { b"tEXt" };
            assert!(bytes.windows(4).any(|window| window == chunk), "{text}");
            let back = Picture::read_png(Cursor::new(bytes)).expect("a PNG");
            assert_eq!(back, picture);
            assert_eq!(back.text(PARAMETERS), Some(text));
        }
    }

    #[test]
    fn same_picture_same_bytes() {
        assert_eq!(written(&small()), written(&small()));
    }

    #[test]
    fn damaged_files_and_nonsense_are_refused() {
        let bytes = written(&small());
        for end in 0..bytes.len() - 12 {
            assert!(Picture::read_png(Cursor::new(&bytes[..end])).is_err(), "cut at {end}");
        }
        assert!(Picture::from_planes(&[f32::NAN; 3], 1, 1).is_err());
        assert!(Picture::from_planes(&[0.0; 4], 1, 1).is_err());
        assert!(Picture::from_planes(&[], 0, 0).is_err());
        assert!(Picture::from_planes(&[], u32::MAX, u32::MAX).is_err());
        assert!(small().with_text(PARAMETERS, "a\0b").write_png(Vec::new()).is_err());
        assert!(small().with_text("", "text").write_png(Vec::new()).is_err());
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut room = [0u8; 40];
        let error = small().write_png(&mut room[..]).expect_err("40 bytes are too few");
        assert_eq!((error.kind(), error.io_kind().is_some()), (ErrorKind::Io, true));
    }
}
