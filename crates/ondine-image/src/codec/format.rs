//! Formats of picture files: which one a name asks for, and JPEG and WebP with the infotext where A1111 keeps it.

use std::{fmt, io::Write, path::Path};

use image_webp::{ColorType, WebPEncoder};
use jpeg_encoder::{Encoder, SamplingFactor};
use ondine_graph::{Error, ErrorKind, Result, fail};

use super::{Picture, exif};

/// The quality of JPEG, of 100: differences are hard to see, and the file is a fifth of a PNG.
const QUALITY: u8 = 95;
/// The most Exif data that a JPEG has room for: a segment of 16 bits, less its length and its name.
const MOST_EXIF: usize = 65533 - 6;

/// A format of picture files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lossless, with texts of any keyword.
    #[default]
    Png,
    /// With losses, of quality 95 and with full colour; the infotext is the Exif user comment.
    Jpeg,
    /// Lossless; the infotext is the Exif user comment.
    WebP,
}

impl Format {
    /// The format that a file of this name has: PNG if the name has no extension.
    ///
    /// # Errors
    /// If the extension is none of png, jpg, jpeg and webp.
    pub fn of(path: &Path) -> Result<Self> {
        let Some(extension) = path.extension() else { return Ok(Self::Png) };
        match extension.to_ascii_lowercase().to_str() {
            Some("png") => Ok(Self::Png),
            Some("jpg" | "jpeg") => Ok(Self::Jpeg),
            Some("webp") => Ok(Self::WebP),
            _ => fail!(
                Argument,
                "{}: pictures are written as .png, .jpg or .webp, not as .{}",
                path.display(),
                extension.display()
            ),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

impl Picture {
    /// Writes the picture in a format.
    ///
    /// # Errors
    /// As [`Picture::write_png`], if a side is too long for the format (65535 pixels in JPEG, 16384 in WebP), or the
    /// infotext is too long ([`Picture::check_text`]).
    pub fn write(&self, format: Format, out: impl Write) -> Result<()> {
        match format {
            Format::Png => self.write_png(out),
            Format::Jpeg => self.write_jpeg(out),
            Format::WebP => self.write_webp(out),
        }
    }

    /// Refuses a format that cannot hold the infotext: JPEG has room for 64 KiB.
    ///
    /// # Errors
    /// As said.
    pub fn check_text(&self, format: Format) -> Result<()> {
        let len = if format == Format::Jpeg { exif::of(self, MOST_EXIF).map_or(0, |exif| exif.len()) } else { 0 };
        if len > MOST_EXIF {
            fail!(
                Argument,
                "its text, of {len} bytes, is too long for JPEG, which has room for {MOST_EXIF}; write a PNG or WebP"
            );
        }
        Ok(())
    }

    fn write_jpeg(&self, out: impl Write) -> Result<()> {
        self.check()?;
        let Self { width, height, rgb, .. } = self;
        let (Ok(columns), Ok(rows)) = (u16::try_from(*width), u16::try_from(*height)) else {
            fail!(Argument, "a {width}x{height} picture is too large for JPEG; write a PNG");
        };
        let mut encoder = Encoder::new(out, QUALITY);
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        if let Some(exif) = exif::of(self, MOST_EXIF) {
            encoder.add_exif_metadata(&exif).map_err(|error| failed(Format::Jpeg, &error))?;
        }
        encoder.encode(rgb, columns, rows, jpeg_encoder::ColorType::Rgb).map_err(|error| failed(Format::Jpeg, &error))
    }

    fn write_webp(&self, out: impl Write) -> Result<()> {
        self.check()?;
        let mut encoder = WebPEncoder::new(out);
        if let Some(exif) = exif::of(self, usize::MAX) {
            encoder.set_exif_metadata(exif);
        }
        let encoded = encoder.encode(&self.rgb, self.width, self.height, ColorType::Rgb8);
        encoded.map_err(|error| failed(Format::WebP, &error))
    }
}

fn failed(format: Format, error: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("the {format} cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image_webp::WebPDecoder;

    use super::{super::PARAMETERS, *};

    fn picture() -> Picture {
        let planes: Vec<f32> = (0..3 * 24 * 16).map(|i| (i % 100) as f32 / 99.0).collect();
        Picture::from_planes(&planes, 24, 16).expect("a picture").with_text(PARAMETERS, "a cat 猫\nSteps: 2")
    }

    fn written(format: Format) -> Vec<u8> {
        let mut bytes = Vec::new();
        picture().write(format, &mut bytes).expect("it can be written");
        bytes
    }

    #[test]
    fn names_say_the_format() {
        let of = |name: &str| Format::of(Path::new(name)).map_err(|error| error.to_string());
        assert_eq!([of("a"), of("a.PNG"), of("a.b.png")], [Ok(Format::Png), Ok(Format::Png), Ok(Format::Png)]);
        assert_eq!([of("a.jpg"), of("a.JPEG"), of("a.webp")], [Ok(Format::Jpeg), Ok(Format::Jpeg), Ok(Format::WebP)]);
        assert!(of("a.gif").is_err_and(|error| error.contains(".png, .jpg or .webp, not as .gif")));
    }

    #[test]
    fn webp_keeps_every_pixel_and_the_infotext() {
        let mut decoder = WebPDecoder::new(Cursor::new(written(Format::WebP))).expect("a WebP");
        assert_eq!(decoder.dimensions(), (24, 16));
        let mut rgb = vec![0; decoder.output_buffer_size().expect("a size")];
        decoder.read_image(&mut rgb).expect("pixels");
        assert_eq!(rgb, picture().rgb);
        let data = decoder.exif_metadata().expect("no error").expect("it has Exif data");
        assert_eq!(exif::comment(&data).expect("a comment"), "a cat 猫\nSteps: 2");
    }

    #[test]
    fn jpeg_has_the_size_and_the_infotext() {
        let bytes = written(Format::Jpeg);
        assert!(bytes.starts_with(&[0xFF, 0xD8]) && bytes.ends_with(&[0xFF, 0xD9]));
        let find = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark).expect("the mark");
        // The frame: its length, 8 bits, height, width, three components.
        let frame = find(&[0xFF, 0xC0]);
        assert_eq!(bytes[frame + 4..frame + 10], [8, 0, 16, 0, 24, 3]);
        let exif_at = find(b"Exif\0\0");
        assert_eq!(exif::comment(&bytes[exif_at + 6..]).expect("a comment"), "a cat 猫\nSteps: 2");
    }

    #[test]
    fn long_texts_are_written_shorter() {
        for text in ["x".repeat(40_000), "猫".repeat(20_000)] {
            let picture = Picture { texts: vec![(PARAMETERS.to_owned(), text.clone())], ..picture() };
            picture.check_text(Format::Jpeg).expect("it fits");
            let mut bytes = Vec::new();
            picture.write(Format::Jpeg, &mut bytes).expect("it can be written");
            let again = Picture::read(&bytes).expect("a picture").picture;
            assert_eq!(again.text(PARAMETERS), Some(text.as_str()));
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let long = picture().with_text(PARAMETERS, "x");
        let wide = Picture { width: 70_000, height: 1, rgb: vec![0; 210_000], texts: Vec::new() };
        assert!(wide.write(Format::Jpeg, Vec::new()).is_err() && wide.write(Format::WebP, Vec::new()).is_err());
        let texts = vec![(PARAMETERS.to_owned(), "x".repeat(70_000))];
        let long = Picture { texts, ..long };
        assert!(long.check_text(Format::Jpeg).is_err() && long.check_text(Format::WebP).is_ok());
        assert!(long.write(Format::Jpeg, Vec::new()).is_err());
        let short = Picture { rgb: vec![0; 5], ..picture() };
        assert!(short.write(Format::Jpeg, Vec::new()).is_err() && short.write(Format::WebP, Vec::new()).is_err());
        let mut room = [0_u8; 40];
        let error = picture().write(Format::Jpeg, &mut room[..]).expect_err("40 bytes are too few");
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
