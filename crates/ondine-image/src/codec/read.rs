//! Pictures that people bring: PNG, JPEG and WebP of any colours, upright, in 8 bits.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage, imageops, metadata::Orientation};
use ondine_graph::{Error, ErrorKind, Result, fail};

use super::{DECODE_LIMIT, PARAMETERS, Picture, check_palette, decoding, exif};

/// A picture of somebody, and what became of it on the way.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its pixels, upright, on white where it is transparent, with the texts of its file.
    pub picture: Picture,
    /// How much each pixel is there, 0 to 255, if it has transparent ones.
    pub opacity: Option<Gray>,
    /// What was changed, for people, such as `turned upright`.
    pub changes: Vec<&'static str>,
}

/// An 8-bit picture of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gray {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width` values, row by row.
    pub values: Vec<u8>,
}

impl Picture {
    /// Reads a PNG, JPEG or WebP: gray, palette, CMYK and 16-bit ones become 8-bit RGB, what is transparent becomes
    /// white, and what a camera held turned becomes upright (Exif).
    ///
    /// # Errors
    /// A file of another format, a damaged one, or one that needs more than 1 GiB.
    pub fn read(bytes: &[u8]) -> Result<Opened> {
        let (image, orientation, comment) = decode(bytes)?;
        let mut changes = Vec::new();
        let color = image.color();
        if color.bytes_per_pixel() > color.channel_count() {
            changes.push("reduced to 8 bits");
        }
        if orientation != Orientation::NoTransforms {
            changes.push("turned upright");
        }
        let (mut rgb, mut opacity) = (None, None);
        if color.has_alpha() {
            let rgba = image.to_rgba8();
            let (width, height) = rgba.dimensions();
            let alpha: Vec<u8> = rgba.pixels().map(|pixel| pixel[3]).collect();
            if alpha.iter().any(|&alpha| alpha < 255) {
                changes.push("transparent parts are white");
                let over = |pixel: &image::Rgba<u8>| {
                    [0, 1, 2].map(|c| {
                        ((u32::from(pixel[c]) * u32::from(pixel[3]) + 255 * (255 - u32::from(pixel[3])) + 127) / 255)
                            as u8
                    })
                };
                rgb = RgbImage::from_raw(width, height, rgba.pixels().flat_map(over).collect());
                opacity = Some(Gray { width, height, values: alpha });
            }
        }
        let rgb = rgb.unwrap_or_else(|| image.to_rgb8());
        let (width, height) = rgb.dimensions();
        let texts = texts(bytes, comment);
        Ok(Opened { picture: Self { width, height, rgb: rgb.into_raw(), texts }, opacity, changes })
    }

    /// The same picture in another size, by Lanczos' filter; texts stay.
    ///
    /// # Errors
    /// Sides of 0, or more pixels than fit.
    pub fn resized(&self, width: u32, height: u32) -> Result<Self> {
        super::pixels(width, height)?;
        self.check()?;
        if (self.width, self.height) == (width, height) {
            return Ok(self.clone());
        }
        let Some(own) = RgbImage::from_raw(self.width, self.height, self.rgb.clone()) else {
            fail!(Shape, "the pixels are not those of a {}x{} picture", self.width, self.height);
        };
        let rgb = imageops::resize(&own, width, height, imageops::FilterType::Lanczos3).into_raw();
        Ok(Self { width, height, rgb, texts: self.texts.clone() })
    }

    /// The square in the middle, `side` pixels wide, of the picture scaled by a cubic filter (Keys 1981, with a = -1/2)
    /// so that its shorter side is that long: what networks of the CLIP family are trained on.
    ///
    /// # Errors
    /// As [`Picture::resized`].
    pub fn square(&self, side: u32) -> Result<Self> {
        super::pixels(side, side)?;
        self.check()?;
        let (width, height) = (u64::from(self.width.max(1)), u64::from(self.height.max(1)));
        let long = |long: u64, short: u64| u32::try_from(u64::from(side) * long / short).unwrap_or(u32::MAX);
        let (wide, high) = if width <= height { (side, long(height, width)) } else { (long(width, height), side) };
        super::pixels(wide, high)?;
        let Some(own) = RgbImage::from_raw(self.width, self.height, self.rgb.clone()) else {
            fail!(Shape, "the pixels are not those of a {}x{} picture", self.width, self.height);
        };
        let scaled = if (wide, high) == (self.width, self.height) {
            own
        } else {
            imageops::resize(&own, wide, high, imageops::FilterType::CatmullRom)
        };
        let (left, top) = ((wide - side) / 2, (high - side) / 2);
        let rgb = imageops::crop_imm(&scaled, left, top, side, side).to_image().into_raw();
        Ok(Self { width: side, height: side, rgb, texts: self.texts.clone() })
    }

    /// The planes of red, green and blue, `[3, height, width]` in 0..1.
    #[must_use]
    pub fn planes(&self) -> Vec<f32> {
        let plane = |c: usize| self.rgb.iter().skip(c).step_by(3).map(|&byte| f32::from(byte) / 255.0);
        (0..3).flat_map(plane).collect()
    }
}

impl Gray {
    /// Reads the brightness of a PNG, JPEG or WebP; of one with transparency and a single colour, the opacity.
    ///
    /// # Errors
    /// As [`Picture::read`].
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let (image, ..) = decode(bytes)?;
        let gray = image.to_luma8();
        let (width, height) = gray.dimensions();
        let flat = gray.iter().all(|value| Some(value) == gray.first());
        if image.color().has_alpha() && flat {
            let values = image.to_rgba8().pixels().map(|pixel| pixel[3]).collect();
            return Ok(Self { width, height, values });
        }
        Ok(Self { width, height, values: gray.into_raw() })
    }

    /// The same with soft edges: by a Gaussian of this deviation in pixels.
    #[must_use]
    pub fn blurred(&self, deviation: f32) -> Self {
        match image::GrayImage::from_raw(self.width, self.height, self.values.clone()) {
            Some(own) if deviation > 0.0 => {
                Self { values: imageops::blur(&own, deviation).into_raw(), width: self.width, height: self.height }
            }
            _ => self.clone(),
        }
    }

    /// The same in another size: by the mean of neighbours, so that edges become soft and none is overshot.
    #[must_use]
    pub fn resized(&self, width: u32, height: u32) -> Self {
        if (self.width, self.height) == (width, height) {
            return self.clone();
        }
        let Some(own) = image::GrayImage::from_raw(self.width, self.height, self.values.clone()) else {
            return Self { width, height, values: vec![0; (width * height) as usize] };
        };
        let values = imageops::resize(&own, width, height, imageops::FilterType::Triangle).into_raw();
        Self { width, height, values }
    }
}

/// True if the mark of the end stands behind the last scan of a JPEG file.
fn ends(jpeg: &[u8]) -> bool {
    let marks = |mark: u8| jpeg.windows(2).rposition(move |pair| pair == [0xff, mark]);
    marks(0xda).is_none_or(|scan| marks(0xd9).is_some_and(|end| end > scan))
}

/// The pixels, turned upright, how they lay before, and the user comment.
fn decode(bytes: &[u8]) -> Result<(DynamicImage, Orientation, Option<String>)> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::from)?;
    if reader.format().is_none() {
        fail!(Format, "no PNG, JPEG or WebP; convert the picture to one of these");
    }
    if reader.format() == Some(ImageFormat::Png) {
        let limits = png::Limits { bytes: DECODE_LIMIT };
        let header = png::Decoder::new_with_limits(Cursor::new(bytes), limits).read_info();
        check_palette(header.map_err(decoding)?.info())?;
    }
    if bytes.starts_with(b"\xff\xd8") && !ends(bytes) {
        fail!(Format, "the JPEG picture was cut off; copy it again");
    }
    let mut reader = reader;
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODE_LIMIT as u64);
    limits.max_image_width = Some(1 << 16);
    limits.max_image_height = Some(1 << 16);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| damaged(&error))?;
    let comment = decoder.exif_metadata().ok().flatten().and_then(|data| exif::comment(&data));
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| damaged(&error))?;
    image.apply_orientation(orientation);
    if image.width() == 0 || image.height() == 0 {
        fail!(Format, "a picture without pixels");
    }
    Ok((image, orientation, comment))
}

/// The texts of a PNG, or the user comment of another format as the infotext.
fn texts(bytes: &[u8], comment: Option<String>) -> Vec<(String, String)> {
    let mut texts = Picture::read_png(Cursor::new(bytes)).map(|picture| picture.texts).unwrap_or_default();
    if let Some(comment) = comment.filter(|_| texts.iter().all(|(keyword, _)| keyword != PARAMETERS)) {
        texts.push((PARAMETERS.to_owned(), comment));
    }
    texts
}

fn damaged(error: &image::ImageError) -> Error {
    let kind = match error {
        image::ImageError::Limits(_) => ErrorKind::Memory,
        image::ImageError::Unsupported(_) => ErrorKind::Unsupported,
        _ => ErrorKind::Format,
    };
    Error::new(kind, format!("the picture cannot be read: {error}"))
}
