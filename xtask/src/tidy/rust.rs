//! Rules about Rust code, found in its tokens: so they hold inside macros and for processors that are not this one.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{
    finding::Finding,
    tokens::{each_level, find, group, is_word, punct, word},
    tree::{File, Tree},
};

/// The longest function, from `fn` to its closing brace.
const MAX_FUNCTION: usize = 80;

/// Where the compiler's proofs may be replaced by ours: in what is fast, where files become memory, and where the
/// program says that there is none.
const UNSAFE_ALLOWED: &[&str] =
    &["crates/ondine-kernels/", "crates/ondine-graph/src/mmap.rs", "crates/ondine/src/allocator.rs"];

/// Lints of everything that ends a program, which libraries deny.
const PANICS: &[&str] = &["unwrap_used", "expect_used", "panic", "unreachable"];

/// Libraries that may end a program: tests alone run them.
const PANICS_ALLOWED: &[&str] = &["crates/ondine-reference/"];

/// Rust files are made of Rust's tokens.
pub(super) fn lexes(tree: &Tree) -> Vec<Finding> {
    let broken = tree.rust().filter_map(|file| Some((file, file.tokens.as_ref().err()?)));
    broken
        .map(|(file, error)| {
            let line = error.span().start().line;
            Finding::new(&file.path, line, format!("no Rust ({error}); repair it, the other checks skip this file"))
        })
        .collect()
}

/// `unsafe` stays in the kernels and in the modules that say what memory is.
pub(super) fn unsafe_only_where_allowed(tree: &Tree) -> Vec<Finding> {
    let message = "`unsafe` outside of the kernels, mmap.rs and allocator.rs; find a safe way, or move it there";
    let files = tree.rust().filter(|file| !UNSAFE_ALLOWED.iter().any(|allowed| file.path.starts_with(allowed)));
    find(files, |tokens| word(tokens, 0, "unsafe").then(|| message.to_owned()))
}

/// Above every `unsafe` block and implementation stands why it is sound.
pub(super) fn unsafe_has_a_reason(tree: &Tree) -> Vec<Finding> {
    let mut findings = find(tree.rust(), |tokens| {
        let block = group(tokens, 1, Delimiter::Brace).is_some();
        let found = word(tokens, 0, "unsafe") && (block || word(tokens, 1, "impl"));
        found.then(|| "`unsafe` without a reason; write `// SAFETY:` above it, with what makes it sound".to_owned())
    });
    findings.retain(|finding| {
        let file = tree.get(&finding.path);
        !file.is_some_and(|file| has_safety_comment(file, finding.line))
    });
    findings
}

/// Looks upwards from the statement that `line` (from one) belongs to.
fn has_safety_comment(file: &File, line: usize) -> bool {
    let above: Vec<&str> = file.text.lines().take(line - 1).map(str::trim).collect();
    let mut above = above.into_iter().rev().peekable();
    // A statement goes on from a line that does not end one; attributes belong to it.
    let goes_on = |line: &&str| !line.is_empty() && !line.starts_with("//") && !line.ends_with([';', '{', '}', ',']);
    while above.next_if(goes_on).is_some() {}
    above.take_while(|line| line.starts_with("//")).any(|line| line.contains("SAFETY:"))
}

/// No code that is announced instead of written, and none that was left from debugging.
pub(super) fn unfinished(tree: &Tree) -> Vec<Finding> {
    find(tree.rust(), |tokens| {
        let name = ["todo", "unimplemented", "dbg"].into_iter().find(|name| word(tokens, 0, name))?;
        punct(tokens, 1, '!').then(|| format!("`{name}!`; finish it, or return an error that says what is missing"))
    })
}

/// Lints are not switched off silently: `expect` tells when it is no longer needed, and its reason why it is.
pub(super) fn lint_exceptions(tree: &Tree) -> Vec<Finding> {
    find(tree.rust(), |tokens| {
        if !punct(tokens, 0, '#') {
            return None;
        }
        let attribute = group(tokens, 1, Delimiter::Bracket).or_else(|| group(tokens, 2, Delimiter::Bracket))?;
        let mut message = None;
        each_level(&attribute, &mut |tokens| {
            let Some(arguments) = group(tokens, 1, Delimiter::Parenthesis) else { return };
            if word(tokens, 0, "allow") {
                message = Some("`allow` of a lint; write `#[expect(lint, reason = \"...\")]`");
            } else if word(tokens, 0, "expect") && !arguments.into_iter().any(|token| is_word(&token, "reason")) {
                message = Some("`expect` of a lint without a reason; add `reason = \"...\"`");
            }
        });
        message.map(str::to_owned)
    })
}

/// A library denies what panics, so that clippy finds it: each exception is a `#[expect]` whose reason says why no file
/// and no caller can get there.
pub(super) fn no_panics(tree: &Tree) -> Vec<Finding> {
    let is_library = |path: &str| path.starts_with("crates/") && path.ends_with("/src/lib.rs");
    let may = |path: &str| PANICS_ALLOWED.iter().any(|allowed| path.starts_with(allowed));
    let libraries = tree.rust().filter(|file| is_library(&file.path) && !may(&file.path));
    let silent = libraries.filter(|file| {
        let denied = file.tokens.as_ref().map(denied_outside_tests).unwrap_or_default();
        !PANICS.iter().all(|lint| denied.iter().any(|denied| denied == lint))
    });
    let lints: Vec<String> = PANICS.iter().map(|lint| format!("clippy::{lint}")).collect();
    let message = format!(
        "panics are not denied; add `#![cfg_attr(not(test), deny({}))]` below its documentation",
        lints.join(", ")
    );
    silent.map(|file| Finding::new(&file.path, 1, message.clone())).collect()
}

/// The words of `#![cfg_attr(not(test), deny(...))]`.
fn denied_outside_tests(tokens: &TokenStream) -> Vec<String> {
    let mut denied = Vec::new();
    each_level(tokens, &mut |tokens| {
        let condition = group(tokens, 1, Delimiter::Parenthesis).filter(|_| word(tokens, 0, "not"));
        let outside = condition.is_some_and(|condition| condition.into_iter().any(|token| is_word(&token, "test")));
        let lints = group(tokens, 4, Delimiter::Parenthesis).filter(|_| outside && word(tokens, 3, "deny"));
        denied.extend(lints.into_iter().flatten().map(|token| token.to_string()));
    });
    denied
}

/// A function fits on a screen or two.
pub(super) fn long_functions(tree: &Tree) -> Vec<Finding> {
    find(tree.rust(), |tokens| {
        let name = if punct(tokens, 1, '$') { tokens.get(2) } else { tokens.get(1) };
        let (true, Some(TokenTree::Ident(name))) = (word(tokens, 0, "fn"), name) else { return None };
        let length = body_end(tokens)? + 1 - tokens[0].span().start().line;
        let message = format!("function `{name}` has {length} lines, the limit is {MAX_FUNCTION}; split it by meaning");
        (length > MAX_FUNCTION).then_some(message)
    })
}

/// The line of the brace that closes the function whose tokens these are; none if it has no body.
fn body_end(function: &[TokenTree]) -> Option<usize> {
    let ends = |token: &&TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    match function.iter().find(ends)? {
        TokenTree::Group(body) => Some(body.span_close().end().line),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lines, *};

    #[test]
    fn broken_files_are_named() {
        assert_eq!(lines(lexes, "a.rs", "fn a() {}\nfn b( {\n"), [2]);
        assert!(lines(lexes, "a.md", "fn b( {").is_empty());
    }

    #[test]
    fn unsafe_stays_in_the_kernels() {
        let code =
            "// unsafe\n#![expect(unsafe_code, reason = \"unsafe\")]\nmacro_rules! m { () => { unsafe { f() } } }";
        assert_eq!(lines(unsafe_only_where_allowed, "crates/ondine-image/src/a.rs", code), [3]);
        assert_eq!(lines(unsafe_only_where_allowed, "crates/ondine-graph/src/mmap/a.rs", code), [3]);
        assert!(lines(unsafe_only_where_allowed, "crates/ondine-graph/src/mmap.rs", code).is_empty());
        assert!(lines(unsafe_only_where_allowed, "crates/ondine-kernels/src/arch/avx2.rs", code).is_empty());
    }

    #[test]
    fn unsafe_needs_a_reason() {
        let check = |code| lines(unsafe_has_a_reason, "a.rs", code);
        assert_eq!(check("fn f() {\n    unsafe { g() }\n}"), [2]);
        assert_eq!(check("unsafe impl Send for A {}"), [1]);
        assert_eq!(check("// SAFETY: of g.\nlet a = 1;\nlet b = unsafe { h() };"), [3]);
        assert_eq!(check("macro_rules! m {\n () => {\n  unsafe { g() } };\n}"), [3]);
        assert!(check("unsafe fn f() {}").is_empty());
        assert!(check("// SAFETY: long\n// story.\nunsafe { g() }").is_empty());
        assert!(check("// SAFETY: story.\n#[inline]\nlet a: usize =\n    unsafe { g() };").is_empty());
    }

    #[test]
    fn unfinished_code_is_found() {
        assert_eq!(lines(unfinished, "a.rs", "fn f() {\n g(todo!());\n}\n/// todo!()\nfn todo() {}"), [2]);
        assert_eq!(lines(unfinished, "a.rs", "unimplemented!()\n;dbg!(1)"), [1, 2]);
    }

    #[test]
    fn lints_are_expected_with_reasons() {
        let check = |code| lines(lint_exceptions, "a.rs", code);
        assert_eq!(check("#[allow(dead_code)]\nfn f() {}"), [1]);
        assert_eq!(check("\n#![cfg_attr(windows, allow(dead_code, reason = \"x\"))]"), [2]);
        assert_eq!(check("#[expect(dead_code)]"), [1]);
        assert!(check("#[expect(dead_code, reason = \"x\")]\nfn allow() { allow(1).expect(2) }").is_empty());
    }

    #[test]
    fn libraries_deny_panics() {
        let check = |path, code: &str| lines(no_panics, path, code).len();
        let all = "clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable";
        let path = "crates/a/src/lib.rs";
        assert_eq!(check(path, &format!("//! A.\n#![cfg_attr(not(test), deny({all}))]\nmod a;")), 0);
        assert_eq!(check(path, "//! A.\nmod a;"), 1);
        assert_eq!(check(path, "#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::panic))]"), 1);
        assert_eq!(check(path, &format!("#![cfg_attr(test, deny({all}))]")), 1);
        assert_eq!(check(path, &format!("#![cfg_attr(not(test), warn({all}))]")), 1);
        assert_eq!(check("crates/a/src/b.rs", ""), 0);
    }

    #[test]
    fn long_functions_are_found() {
        let function = |lines: usize| format!("\nfn f(a: [u8; 2]) -> u8 {{{}}}\nfn g();", "\n".repeat(lines - 1));
        assert!(lines(long_functions, "a.rs", &function(MAX_FUNCTION)).is_empty());
        assert_eq!(lines(long_functions, "a.rs", &function(MAX_FUNCTION + 1)), [2]);
        let by_macro = format!("macro_rules! m {{ () => {{ fn $name() {{{}}} }} }}", "\n".repeat(MAX_FUNCTION));
        assert_eq!(lines(long_functions, "a.rs", &by_macro), [1]);
    }
}
