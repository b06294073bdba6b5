//! The report: one file with its styles, its script and its data inside.

use serde_json::Value;

const PAGE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// The page about what was measured.
pub(super) fn page(facts: &Value) -> String {
    // Source text may hold what ends a script element.
    let data = facts.to_string().replace('<', "\\u003c");
    let (head, rest) = PAGE.split_once("/* style */").unwrap_or((PAGE, ""));
    let (middle, rest) = rest.split_once("/* data */").unwrap_or((rest, ""));
    let (before, after) = rest.split_once("/* script */").unwrap_or((rest, ""));
    [head, STYLE, middle, &data, before, SCRIPT, after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_asks_for_nothing() {
        let facts = serde_json::json!({"text": "x = \"</script><!--\""});
        let page = page(&facts);
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        assert_eq!(page.matches("</script").count(), 2, "the data's and the program's");
        assert!(page.contains(STYLE) && page.contains(SCRIPT));
        for word in ["http://", "https://", "src=", "@import", "url("] {
            let found = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(word), "{word}");
        }
        let data = page.split_once("type=\"application/json\">").unwrap().1.split_once("</script").unwrap().0;
        assert_eq!(serde_json::from_str::<Value>(data).unwrap(), facts);
    }
}
