//! Edges of pictures (Canny 1986), to the pixel those of OpenCV, which networks that are steered by edges were trained
//! with.

/// Where edges are: 255 on them, 0 elsewhere, for each pixel of `rgb`, three bytes a pixel in rows of `width`.
///
/// Of the colours the one that changes most counts. What changes by more than `high` (the sum of the absolute slopes
/// along both axes, by Sobel's 3x3 kernels) is an edge, and what changes by more than `low` and touches one.
#[must_use]
pub fn canny(rgb: &[u8], width: usize, low: u32, high: u32) -> Vec<u8> {
    let height = rgb.len() / (3 * width.max(1));
    let slopes = Slopes::new(rgb, width, height);
    let mut edges = vec![0_u8; width * height];
    let mut open = Vec::new();
    let mut weak = vec![false; width * height];
    for y in 0..height {
        for x in 0..width {
            let at = y * width + x;
            if slopes.size[at] > low && slopes.is_ridge(x, y) {
                weak[at] = true;
                if slopes.size[at] > high {
                    open.push(at);
                }
            }
        }
    }
    open.iter().for_each(|&at| edges[at] = 255);
    while let Some(at) = open.pop() {
        let (x, y) = (at % width, at / width);
        for near_y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
            for near_x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                let near = near_y * width + near_x;
                if weak[near] && edges[near] == 0 {
                    edges[near] = 255;
                    open.push(near);
                }
            }
        }
    }
    edges
}

/// The slopes of a picture, of the colour that changes most at each pixel.
struct Slopes {
    width: usize,
    height: usize,
    along_x: Vec<i32>,
    along_y: Vec<i32>,
    /// The sum of the absolute slopes.
    size: Vec<u32>,
}

impl Slopes {
    fn new(rgb: &[u8], width: usize, height: usize) -> Self {
        let count = width * height;
        let mut slopes = Self { width, height, along_x: vec![0; count], along_y: vec![0; count], size: vec![0; count] };
        for y in 0..height {
            let rows = [y.saturating_sub(1), y, (y + 1).min(height - 1)];
            for x in 0..width {
                let columns = [x.saturating_sub(1), x, (x + 1).min(width - 1)];
                let at = y * width + x;
                for colour in 0..3 {
                    let pixel = |i: usize, j: usize| i32::from(rgb[3 * (rows[i] * width + columns[j]) + colour]);
                    let rising = |a: [i32; 3], b: [i32; 3]| b[0] - a[0] + 2 * (b[1] - a[1]) + b[2] - a[2];
                    let along_x = rising([0, 1, 2].map(|i| pixel(i, 0)), [0, 1, 2].map(|i| pixel(i, 2)));
                    let along_y = rising([0, 1, 2].map(|j| pixel(0, j)), [0, 1, 2].map(|j| pixel(2, j)));
                    let size = along_x.unsigned_abs() + along_y.unsigned_abs();
                    if colour == 0 || size > slopes.size[at] {
                        (slopes.along_x[at], slopes.along_y[at], slopes.size[at]) = (along_x, along_y, size);
                    }
                }
            }
        }
        slopes
    }

    /// True where the change is largest along its direction, of which there are four; there is none beyond the border.
    fn is_ridge(&self, x: usize, y: usize) -> bool {
        /// `tan(22.5 degrees)` in 15 bits behind the point.
        const TANGENT: i64 = 13_573;
        const BITS: u32 = 15;
        let at = y * self.width + x;
        let (along_x, along_y) = (i64::from(self.along_x[at]), i64::from(self.along_y[at]));
        let (wide, tall) = (along_x.abs() * TANGENT, along_y.abs() << BITS);
        let own = self.size[at];
        if tall < wide {
            own > self.near(x, y, -1, 0) && own >= self.near(x, y, 1, 0)
        } else if tall > wide + (along_x.abs() << (BITS + 1)) {
            own > self.near(x, y, 0, -1) && own >= self.near(x, y, 0, 1)
        } else {
            let side = if (along_x < 0) == (along_y < 0) { 1 } else { -1 };
            own > self.near(x, y, -side, -1) && own > self.near(x, y, side, 1)
        }
    }

    fn near(&self, x: usize, y: usize, right: isize, down: isize) -> u32 {
        match (x.checked_add_signed(right), y.checked_add_signed(down)) {
            (Some(x), Some(y)) if x < self.width && y < self.height => self.size[y * self.width + x],
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_has_four_edges_and_flat_pictures_none() {
        let (width, height) = (12, 10);
        let inside = |i: usize| (3..8).contains(&(i % width)) && (3..7).contains(&(i / width));
        let rgb: Vec<u8> = (0..width * height).flat_map(|i| [if inside(i) { 200 } else { 20 }; 3]).collect();
        let edges = canny(&rgb, width, 100, 200);
        let on = edges.iter().filter(|&&edge| edge == 255).count();
        assert!((14..=24).contains(&on), "{on}");
        assert!(edges.iter().enumerate().all(|(i, &edge)| edge == 0 || (2..9).contains(&(i % width))));
        assert!(canny(&vec![9; 3 * width * height], width, 1, 2).iter().all(|&edge| edge == 0));
        assert_eq!(canny(&[1, 2, 3], 1, 0, 0), [0]);
        assert!(canny(&[], 0, 0, 0).is_empty());
    }
}
