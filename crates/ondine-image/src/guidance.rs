//! Classifier-free guidance: leaning away from what the empty or negative prompt predicts.

use ondine_graph::{Result, fail};

/// Turns the prompt's prediction into the guided one, in place: `c <- u + scale * (c - u)` (Ho &
/// Salimans 2022). Scale 1 leaves it as it is.
///
/// # Errors
/// A scale that is not finite, or predictions of different length.
pub fn guide(conditional: &mut [f32], unconditional: &[f32], scale: f32) -> Result<()> {
    if !scale.is_finite() {
        fail!(Argument, "guidance scale is {scale}; give a finite number");
    }
    same_length(conditional, unconditional)?;
    for (c, &u) in conditional.iter_mut().zip(unconditional) {
        *c = u + scale * (*c - u);
    }
    Ok(())
}

/// Adds a further prompt to a guided prediction, in place: `g <- g + scale * (c - u)` (Liu et al. 2022).
///
/// # Errors
/// As [`guide`].
pub fn compose(guided: &mut [f32], conditional: &[f32], unconditional: &[f32], scale: f32) -> Result<()> {
    if !scale.is_finite() {
        fail!(Argument, "guidance scale is {scale}; give a finite number");
    }
    same_length(guided, conditional)?;
    same_length(guided, unconditional)?;
    for ((g, &c), &u) in guided.iter_mut().zip(conditional).zip(unconditional) {
        *g += scale * (c - u);
    }
    Ok(())
}

/// Guidance by text and picture (`InstructPix2Pix`, Brooks et al. 2023, eq. 3):
/// `none + picture (image - none) + text (both - image)`, of the predictions with both, with the picture alone, and
/// with none.
///
/// # Errors
/// A scale that is not finite, or predictions of different length.
pub fn guide_by_picture([both, image, none]: [&[f32]; 3], text: f32, picture: f32) -> Result<Vec<f32>> {
    if !(text.is_finite() && picture.is_finite()) {
        fail!(Argument, "guidance scales are {text} and {picture}; give finite numbers");
    }
    same_length(both, image)?;
    same_length(both, none)?;
    let parts = both.iter().zip(image).zip(none);
    Ok(parts.map(|((both, image), none)| none + text * (both - image) + picture * (image - none)).collect())
}

/// Brings guided predictions back to the spread of the prompt's own ones, in place:
/// `g <- phi * g * std(c) / std(g) + (1 - phi) * g` (Lin et al., section 3.4), against the
/// overexposure of strong guidance.
///
/// Each picture of the batch has its own spread: `picture` is the number of values of one, `C*H*W`.
///
/// # Errors
/// A `phi` outside 0..=1, predictions of different length, or a length `picture` does not divide.
pub fn rescale(guided: &mut [f32], conditional: &[f32], phi: f32, picture: usize) -> Result<()> {
    if !(0.0..=1.0).contains(&phi) {
        fail!(Argument, "guidance rescale is {phi}; give a number from 0 to 1");
    }
    same_length(guided, conditional)?;
    if picture == 0 || !guided.len().is_multiple_of(picture) {
        fail!(Shape, "{} values are not whole pictures of {picture}; give whole pictures", guided.len());
    }
    for (guided, conditional) in guided.chunks_exact_mut(picture).zip(conditional.chunks_exact(picture)) {
        let ratio = (deviation(conditional) / deviation(guided)) as f32;
        if ratio.is_finite() {
            for g in guided {
                *g = phi * (*g * ratio) + (1.0 - phi) * *g;
            }
        }
    }
    Ok(())
}

/// The unbiased standard deviation.
fn deviation(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
    (squares / (count - 1.0)).sqrt()
}

fn same_length(a: &[f32], b: &[f32]) -> Result<()> {
    let (a, b) = (a.len(), b.len());
    if a != b {
        fail!(Shape, "predictions of {a} and {b} values cannot be combined; give slices of one length");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_one_is_the_prompts_own_prediction() {
        let mut c = [0.5, -2.0, 3.0];
        guide(&mut c, &[0.25, 1.0, 3.0], 1.0).expect("finite");
        assert_eq!(c, [0.5, -2.0, 3.0]);
        guide(&mut c, &[0.25, 1.0, 3.0], 7.5).expect("finite");
        assert_eq!(c, [2.125, -21.5, 3.0]);
    }

    #[test]
    fn full_rescale_restores_the_spread_of_each_picture() {
        let conditional = [1.0, 2.0, 3.0, 10.0, 20.0, 60.0];
        let mut guided = [5.0, -5.0, 9.0, 1.0, 2.0, 4.0];
        rescale(&mut guided, &conditional, 1.0, 3).expect("whole pictures");
        for (g, c) in guided.chunks(3).zip(conditional.chunks(3)) {
            assert!((deviation(g) - deviation(c)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_flat_prediction_stays() {
        let mut guided = [2.0; 4];
        rescale(&mut guided, &[1.0, 2.0, 3.0, 4.0], 0.7, 4).expect("whole pictures");
        assert_eq!(guided, [2.0; 4]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(guide(&mut [0.0], &[0.0], f32::NAN).is_err());
        assert!(guide(&mut [0.0], &[0.0, 1.0], 2.0).is_err());
        assert!(rescale(&mut [0.0; 4], &[0.0; 4], 1.5, 2).is_err());
        assert!(rescale(&mut [0.0; 4], &[0.0; 4], 0.5, 0).is_err());
        assert!(rescale(&mut [0.0; 4], &[0.0; 4], 0.5, 3).is_err());
    }
}
