//! The quantile function of the symmetric beta distribution, for "beta" sigmas.

/// The `x` in [0, 1] at which the cumulative distribution of Beta(`shape`, `shape`) is `p`.
///
/// Bisection on the regularized incomplete beta function, to the last bits of float64.
pub(super) fn quantile(p: f64, shape: f64) -> f64 {
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p, shape);
    }
    let (mut low, mut high) = (0.0, 0.5);
    if p <= 0.0 {
        return low;
    }
    let log_scale = -log_beta_symmetric(shape);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if cumulative(middle, shape, log_scale) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The cumulative distribution at `x <= 1/2`, by the power series
/// `x^a (1-x)^a / (a B(a, a)) * sum_n [prod_{k<n} (2a + k) / (a + 1 + k)] x^n`.
fn cumulative(x: f64, a: f64, log_scale: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 0..2000 {
        term *= (2.0 * a + f64::from(k)) / (a + 1.0 + f64::from(k)) * x;
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
    }
    (log_scale + a * (x * (1.0 - x)).ln()).exp() / a * sum
}

/// `ln B(a, a)`, from the condition that the distribution is 1/2 at 1/2.
fn log_beta_symmetric(a: f64) -> f64 {
    (2.0 * cumulative(0.5, a, 0.0)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_known_quantiles() {
        // Beta(1/2, 1/2) is the arcsine distribution: quantile(p) = sin^2(pi p / 2).
        for p in [0.001, 0.1, 0.25, 0.5, 0.8, 0.999] {
            let expected = (std::f64::consts::FRAC_PI_2 * p).sin().powi(2);
            assert!((quantile(p, 0.5) - expected).abs() < 1e-14, "p = {p}");
        }
        assert_eq!((quantile(0.0, 0.6), quantile(1.0, 0.6)), (0.0, 1.0));
    }
}
