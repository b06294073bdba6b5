//! Edges against those that OpenCV finds (`python/golden/edges.py`).

use ondine_image::edges::canny;
use serde_json::Value;

/// The formula of the golden's pictures.
fn value(x: usize, y: usize, colour: usize, kind: usize) -> u8 {
    let wave = ((x * (kind + 1) + y * (3 - colour)) % 48).abs_diff(24) * 6;
    let step = (x / 9 + y / 7 + colour * kind) % 2 * 70;
    ((wave + step + x * y % (5 + kind)) * 2 / 3).min(255) as u8
}

#[test]
fn edges_are_those_of_opencv_to_the_pixel() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("data/edges.json")).expect("the golden is JSON");
    for case in &cases {
        let number = |key: &str| case[key].as_u64().expect(key) as usize;
        let (width, height, kind) = (number("width"), number("height"), number("kind"));
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let rgb: Vec<u8> = pixels.flat_map(|(x, y)| [0, 1, 2].map(|colour| value(x, y, colour, kind))).collect();
        let edges = canny(&rgb, width, number("low") as u32, number("high") as u32);
        let rows: Vec<String> =
            edges.chunks(width).map(|row| row.iter().map(|&edge| if edge > 0 { '#' } else { '.' }).collect()).collect();
        let wanted: Vec<&str> = case["rows"].as_array().expect("rows").iter().filter_map(Value::as_str).collect();
        assert_eq!(rows, wanted, "{width}x{height}");
    }
}
