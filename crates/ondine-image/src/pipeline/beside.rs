//! What denoisers take beside noisy latents, told by their channels.

/// What a denoiser takes beside noisy latents, told by its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// Nothing.
    Nothing,
    /// Where to draw, one channel, and the latents of the picture without that (inpainting, Rombach et al. 2022).
    MaskAndPicture,
    /// The latents of the picture without what is drawn anew, and of each pixel whether it is, so many of a latent's
    /// side (`FLUX.1 Fill`).
    PictureAndPixels(usize),
    /// The latents of the picture to change, as the encoder has them (`InstructPix2Pix`, Brooks et al. 2023).
    Picture,
}

impl Beside {
    /// What a denoiser of `takes` channels takes besides latents of `channels`, a latent being `factor` pixels along
    /// each side, if it is one of these.
    pub(super) fn of(takes: usize, channels: usize, factor: usize) -> Option<Self> {
        match takes.checked_sub(channels)? {
            0 => Some(Self::Nothing),
            beside if beside == channels + 1 => Some(Self::MaskAndPicture),
            beside if beside == channels => Some(Self::Picture),
            beside if beside == channels + factor * factor => Some(Self::PictureAndPixels(factor)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unet_takes_follows_from_its_channels() {
        let of = |takes, channels| Beside::of(takes, channels, 8);
        assert_eq!(
            [of(4, 4), of(9, 4), of(8, 4)].map(Option::unwrap),
            [Beside::Nothing, Beside::MaskAndPicture, Beside::Picture]
        );
        assert_eq!([of(5, 4), of(7, 4), of(3, 4)], [None; 3]);
        assert_eq!(of(33, 16), Some(Beside::MaskAndPicture));
        assert_eq!((of(96, 16), Beside::of(96, 16, 4)), (Some(Beside::PictureAndPixels(8)), None));
    }
}
