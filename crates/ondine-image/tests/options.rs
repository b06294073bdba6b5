//! The options of a request: what they are called, and where that is told.

use std::{collections::BTreeSet, path::Path};

use ondine_graph::ErrorKind;
use ondine_image::request::{Kind, OPTIONS, Request, Setting, parse_seed};

/// The option as a line of the README's table.
fn row(setting: &Setting) -> String {
    let Setting { name, short, aliases, help, .. } = setting;
    let short = short.map(|letter| format!("`-{letter}`"));
    let names =
        std::iter::once(format!("`--{name}`")).chain(short).chain(aliases.iter().map(|alias| format!("`--{alias}`")));
    let (names, values) = (names.collect::<Vec<_>>().join(" "), setting.values());
    format!("| {names} | {help} | {values} | {} |", setting.default())
}

#[test]
fn the_readme_lists_every_option() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("the repository has a README");
    let found: Vec<_> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
    let wanted: Vec<_> = OPTIONS.iter().map(row).collect();
    assert_eq!(found, wanted, "the table of options in README.md should be:\n{}\n", wanted.join("\n"));
}

#[test]
fn names_and_letters_are_each_one_option_s() {
    let names = OPTIONS.iter().flat_map(|setting| std::iter::once(setting.name).chain(setting.aliases.iter().copied()));
    let letters = OPTIONS.iter().filter_map(|setting| setting.short);
    let (names, letters): (Vec<_>, Vec<_>) = (names.collect(), letters.collect());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), letters.len());
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let check = |setting: &Setting, put: &dyn Fn(&mut Request)| {
        let mut request = Request::new("a cat");
        put(&mut request);
        let error = request.check().expect_err(setting.name);
        assert_eq!(error.kind(), ErrorKind::Argument);
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} is ", setting.name)) && text.contains("; give a "), "{text}");
    };
    for setting in OPTIONS {
        match &setting.kind {
            Kind::Whole { range, set, .. } => {
                check(setting, &|request| set(request, range.end() + 1));
                if let Some(below) = range.start().checked_sub(1) {
                    check(setting, &|request| set(request, below));
                }
            }
            Kind::Number { range, set, .. } => {
                for number in [range.end() + 1.0, range.start() - 1.0, f64::NAN, f64::INFINITY] {
                    check(setting, &|request| set(request, number));
                }
            }
            Kind::Text { .. } | Kind::Seed { .. } | Kind::Choice { .. } => {}
        }
    }
    Request::new("a cat").check().expect("the defaults are within their ranges");
}

#[test]
fn seeds_are_numbers_or_random() {
    assert_eq!(parse_seed("18446744073709551615").ok(), Some(u64::MAX));
    for text in ["-2", "1.5", "", "18446744073709551616", "dice"] {
        let error = parse_seed(text).expect_err(text);
        assert!(error.to_string().contains("or -1 for a random one"), "{error}");
    }
    let random: BTreeSet<u64> = (0..8).map(|_| parse_seed("-1").expect("a seed")).collect();
    assert!(random.len() > 1 && random.iter().all(|&seed| u32::try_from(seed).is_ok()), "{random:?}");
}

#[test]
fn names_that_are_offered_are_taken() {
    for setting in OPTIONS {
        let Kind::Choice { names, get, set } = &setting.kind else { continue };
        for name in names() {
            let mut request = Request::new("a cat");
            set(&mut request, name).expect(name);
            assert_eq!(get(&request).as_deref(), Some(name));
        }
    }
}
