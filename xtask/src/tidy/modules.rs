//! The modules of a crate, and which file names what of which other.
//!
//! Names are followed as the compiler follows them, through `use`, re-exports and globs, to the file that defines an
//! item: a root that re-exports everything is not what its modules name. What only tests see does not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{
    tokens::{group, is_word, punct, word},
    tree::{File, Tree},
};

/// The modules of a crate that are compiled without tests.
pub(super) struct Modules<'a> {
    files: Vec<&'a File>,
    modules: Vec<Module>,
    /// Every path to something, in the module where it stands.
    mentions: Vec<(usize, Path)>,
    /// Macros by rules, with the modules that define one of this name.
    macros: BTreeMap<String, Vec<usize>>,
}

/// One file names something that another one defines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tie<'a> {
    /// The path of the file that names.
    pub(super) from: &'a str,
    pub(super) line: usize,
    /// The path of the file that defines.
    pub(super) to: &'a str,
    /// What is named, for instance `Graph`.
    pub(super) name: String,
}

#[derive(Default)]
struct Module {
    /// Its names from the root of the crate, which has none.
    path: Vec<String>,
    parent: Option<usize>,
    file: usize,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imports: Vec<Path>,
}

/// A path as it is written: `crate::a::B`, `super::b::*`, `c::d!`.
#[derive(Clone, Default)]
struct Path {
    names: Vec<String>,
    line: usize,
    /// The name that a `use` gives to it: none for a glob, and outside of `use`.
    alias: Option<String>,
    is_glob: bool,
}

/// What a path leads to within the crate.
#[derive(Clone, Copy, Default)]
struct Found {
    /// A module.
    module: Option<usize>,
    /// The module that defines an item of this name.
    item: Option<usize>,
    /// How many names of the path lead there: what follows is within the item.
    names: usize,
}

impl<'a> Modules<'a> {
    /// The modules below the root of a crate, `src/lib.rs` or `src/main.rs`, by their declarations.
    pub(super) fn read(tree: &'a Tree, root: &'a File) -> Self {
        let mut modules =
            Self { files: Vec::new(), modules: Vec::new(), mentions: Vec::new(), macros: BTreeMap::new() };
        modules.read_file(tree, root, Vec::new(), None);
        modules
    }

    /// The paths of its files, each with the names of its module: none for the root.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'a str, &[String])> {
        let of_file = |file: usize| self.modules.iter().find(move |module| module.file == file);
        self.files
            .iter()
            .enumerate()
            .map(move |(index, file)| (&*file.path, of_file(index).map_or(&[][..], |module| &module.path)))
    }

    /// Which file names what of which other, each pair and name once.
    pub(super) fn ties(&self) -> Vec<Tie<'a>> {
        let mut ties = Vec::new();
        let mut known = BTreeSet::new();
        for (module, path) in &self.mentions {
            let found = self.follow(*module, &path.names, &mut BTreeSet::new());
            // A module as such is not what is named, but what is in it.
            let Some(defining) = found.item.or(found.module.filter(|_| path.is_glob)) else { continue };
            let (from, to) = (self.modules[*module].file, self.modules[defining].file);
            let name = &path.names[found.names - 1];
            let tie =
                Tie { from: &self.files[from].path, line: path.line, to: &self.files[to].path, name: name.clone() };
            if from != to && known.insert((from, to, name)) {
                ties.push(tie);
            }
        }
        ties
    }

    /// What the path `names` leads to that stands in the module `from`.
    fn follow(&self, from: usize, names: &[String], seen: &mut BTreeSet<(usize, String)>) -> Found {
        let mut found = Found { module: Some(from), ..Found::default() };
        for (index, name) in names.iter().enumerate() {
            let Some(module) = found.module else { break };
            found = match &**name {
                "crate" => Found { module: Some(0), ..Found::default() },
                "self" => found,
                "super" => Found { module: self.modules[module].parent, ..Found::default() },
                name => self.look_up(module, name, seen),
            };
            if found.module.is_none() && found.item.is_none() {
                // A macro has no module but by its name; what else is unknown in a module was made there by one.
                let by_path = Some(module).filter(|_| index > 0);
                found.item = self.macro_named(module, name).filter(|_| names.len() == 1 || index > 0).or(by_path);
            }
            found.names = index + 1;
        }
        found
    }

    /// What `name` means within a module.
    fn look_up(&self, module: usize, name: &str, seen: &mut BTreeSet<(usize, String)>) -> Found {
        let here = &self.modules[module];
        let item = here.items.contains(name).then_some(module);
        let mut found = Found { module: here.children.get(name).copied(), item, names: 0 };
        if found.item.is_some() || !seen.insert((module, name.to_owned())) {
            return found;
        }
        // A module and an item may have one name: `mod fold; use fold::fold;`.
        for import in here.imports.iter().filter(|import| import.alias.as_deref() == Some(name)) {
            let imported = self.follow(module, &import.names, seen);
            found.module = found.module.or(imported.module);
            found.item = found.item.or(imported.item);
        }
        for glob in here.imports.iter().filter(|import| import.is_glob) {
            if found.module.is_some() || found.item.is_some() {
                break;
            }
            if let Some(target) = self.follow(module, &glob.names, seen).module {
                found = self.look_up(target, name, seen);
            }
        }
        found
    }

    /// The module that defines the macro `name`, as far as the name alone tells.
    fn macro_named(&self, module: usize, name: &str) -> Option<usize> {
        let modules = self.macros.get(name)?;
        match modules[..] {
            [only] => Some(only),
            _ => modules.contains(&module).then_some(module),
        }
    }

    fn read_file(&mut self, tree: &'a Tree, file: &'a File, path: Vec<String>, parent: Option<usize>) -> usize {
        self.files.push(file);
        let module = self.add(path, parent, self.files.len() - 1);
        if let Ok(tokens) = &file.tokens {
            self.read_items(tree, module, tokens);
        }
        module
    }

    fn add(&mut self, path: Vec<String>, parent: Option<usize>, file: usize) -> usize {
        self.modules.push(Module { path, parent, file, ..Module::default() });
        self.modules.len() - 1
    }

    /// Reads what stands at the top level of a module.
    fn read_items(&mut self, tree: &'a Tree, module: usize, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let mut rest = &tokens[..];
        while !rest.is_empty() {
            rest = match self.read_child(tree, module, rest) {
                Some(after) => after,
                None => {
                    if let Some(name) = item_name(rest) {
                        self.modules[module].items.insert(name);
                    }
                    self.read_token(module, rest)
                }
            };
        }
    }

    /// Reads a module within a module; nothing if the tokens do not begin with one.
    fn read_child<'t>(&mut self, tree: &'a Tree, parent: usize, tokens: &'t [TokenTree]) -> Option<&'t [TokenTree]> {
        let [keyword, TokenTree::Ident(name), after, rest @ ..] = tokens else { return None };
        if !is_word(keyword, "mod") {
            return None;
        }
        let (name, outer) = (name.to_string(), &self.modules[parent]);
        let path: Vec<String> = outer.path.iter().cloned().chain([name.clone()]).collect();
        let child = match after {
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                let child = self.add(path, Some(parent), outer.file);
                self.read_items(tree, child, &body.stream());
                child
            }
            _ => {
                let file = declared_file(tree, self.files[outer.file], &self.inner_path(parent), &name)?;
                self.read_file(tree, file, path, Some(parent))
            }
        };
        self.modules[parent].children.insert(name, child);
        Some(rest)
    }

    /// The names of a module from the module of its file on.
    fn inner_path(&self, module: usize) -> Vec<String> {
        let mut names = Vec::new();
        let mut here = &self.modules[module];
        while let (Some(parent), Some(name)) = (here.parent, here.path.last()) {
            if self.modules[parent].file != here.file {
                break;
            }
            names.insert(0, name.clone());
            here = &self.modules[parent];
        }
        names
    }

    /// Reads one token, or what it begins: what follows.
    fn read_token<'t>(&mut self, module: usize, tokens: &'t [TokenTree]) -> &'t [TokenTree] {
        if let Some(after) = after_test(tokens) {
            return after;
        }
        if word(tokens, 0, "macro_rules")
            && punct(tokens, 1, '!')
            && let Some(TokenTree::Ident(name)) = tokens.get(2)
        {
            self.macros.entry(name.to_string()).or_default().push(module);
            return &tokens[3..];
        }
        if word(tokens, 0, "use") && !punct(tokens, 1, '<') {
            let end = tokens.iter().position(|token| is_punct(token, ';')).unwrap_or(tokens.len());
            let mut imports = Vec::new();
            read_use(&tokens[1..end], &Path::default(), &mut imports);
            self.mentions.extend(imports.iter().map(|import| (module, import.clone())));
            self.modules[module].imports.extend(imports);
            return &tokens[end..];
        }
        match &tokens[0] {
            TokenTree::Group(inner) => {
                let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
                let mut rest = &inner[..];
                while !rest.is_empty() {
                    rest = self.read_token(module, rest);
                }
            }
            TokenTree::Ident(_) => {
                let (path, after) = read_path(tokens);
                let is_macro = punct(after, 0, '!') && matches!(after.get(1), Some(TokenTree::Group(_)));
                if path.names.len() > 1 || is_macro {
                    self.mentions.push((module, path));
                }
                return after;
            }
            TokenTree::Punct(mark) if mark.as_char() == '.' && punct(tokens, 1, '.') => return &tokens[2..],
            // `.name` is a field or a method, `::name` begins in another crate.
            TokenTree::Punct(mark) if mark.as_char() == '.' && matches!(tokens.get(1), Some(TokenTree::Ident(_))) => {
                return &tokens[2..];
            }
            TokenTree::Punct(_) if is_path_mark(tokens) && matches!(tokens.get(2), Some(TokenTree::Ident(_))) => {
                return read_path(&tokens[2..]).1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        &tokens[1..]
    }
}

/// The file of `mod name;` in a module that is `inner` within `file`.
fn declared_file<'a>(tree: &'a Tree, file: &File, inner: &[String], name: &str) -> Option<&'a File> {
    let stem = file.path.trim_end_matches(".rs");
    let folder = ["/lib", "/main", "/mod"].iter().find_map(|root| stem.strip_suffix(root)).unwrap_or(stem);
    let folder = inner.iter().fold(folder.to_owned(), |folder, name| format!("{folder}/{name}"));
    tree.get(&format!("{folder}/{name}.rs")).or_else(|| tree.get(&format!("{folder}/{name}/mod.rs")))
}

/// The name of an item that the tokens begin with, once what stands before its keyword has been passed.
fn item_name(tokens: &[TokenTree]) -> Option<String> {
    let name = |index: usize| match tokens.get(index) {
        Some(TokenTree::Ident(name)) => Some(name.to_string()),
        _ => None,
    };
    let keyword = name(0)?;
    match &*keyword {
        "enum" | "fn" | "struct" | "trait" | "type" | "union" => name(1),
        "const" | "static" => name(if word(tokens, 1, "mut") { 2 } else { 1 }),
        _ => None,
    }
}

/// What follows an item, field or arm that only tests see; none if the tokens begin with something else.
fn after_test(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    let attribute = group(tokens, 1, Delimiter::Bracket).filter(|_| punct(tokens, 0, '#'))?;
    if !is_test_only(&attribute) {
        return None;
    }
    let mut rest = &tokens[2..];
    while punct(rest, 0, '#') && group(rest, 1, Delimiter::Bracket).is_some() {
        rest = &rest[2..];
    }
    if word(rest, 0, "pub") {
        rest = &rest[if group(rest, 1, Delimiter::Parenthesis).is_some() { 2 } else { 1 }..];
    }
    let is_any = |words: &[&str]| words.iter().any(|text| word(rest, 0, text));
    let is_function = ["fn", "unsafe", "async", "extern"].iter().any(|text| word(rest, 1, text));
    let is_statement = is_any(&["use", "static", "type", "let"]) || (is_any(&["const"]) && !is_function);
    let is_item = is_any(&["async", "const", "enum", "extern", "fn", "impl", "mod", "struct", "trait", "unsafe"]);
    let is_brace =
        |token: &TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
    let ends = |token: &TokenTree| {
        is_punct(token, ';') || (!is_statement && (is_brace(token) || (!is_item && is_punct(token, ','))))
    };
    let end = rest.iter().position(ends).map_or(rest.len(), |end| end + 1);
    Some(&rest[end..])
}

/// True of `cfg(test)` and `cfg(all(test, ...))`.
fn is_test_only(attribute: &TokenStream) -> bool {
    let tokens: Vec<TokenTree> = attribute.clone().into_iter().collect();
    let Some(condition) = group(&tokens, 1, Delimiter::Parenthesis).filter(|_| word(&tokens, 0, "cfg")) else {
        return false;
    };
    let condition: Vec<TokenTree> = condition.into_iter().collect();
    let all = group(&condition, 1, Delimiter::Parenthesis).filter(|_| word(&condition, 0, "all"));
    match all {
        Some(all) => all.into_iter().any(|token| is_word(&token, "test")),
        None => condition.len() == 1 && word(&condition, 0, "test"),
    }
}

/// The paths of a `use` without its keyword and semicolon, behind what stands before them.
fn read_use(tokens: &[TokenTree], before: &Path, paths: &mut Vec<Path>) {
    let mut path = before.clone();
    let mut rest = tokens;
    while let Some(token) = rest.first() {
        match token {
            TokenTree::Ident(name) => {
                path.line = name.span().start().line;
                path.names.push(name.to_string());
            }
            TokenTree::Group(inner) => {
                let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
                let parts = inner.split(|token| is_punct(token, ',')).filter(|part| !part.is_empty());
                parts.for_each(|part| read_use(part, &path, paths));
                return;
            }
            TokenTree::Punct(mark) if mark.as_char() == '*' => {
                path.line = mark.span().start().line;
                path.is_glob = true;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
        rest = &rest[1..];
        if word(rest, 0, "as") {
            path.alias = rest.get(1).map(ToString::to_string);
            break;
        }
    }
    if path.names.len() > 1 && path.names.last().is_some_and(|name| name == "self") {
        path.names.pop();
    }
    if path.alias.is_none() && !path.is_glob {
        path.alias = path.names.last().cloned();
    }
    if !path.names.is_empty() {
        paths.push(path);
    }
}

/// The path that begins with the first token, and what follows.
fn read_path(tokens: &[TokenTree]) -> (Path, &[TokenTree]) {
    let mut path = Path::default();
    let mut rest = tokens;
    while let Some(TokenTree::Ident(name)) = rest.first() {
        path.line = name.span().start().line;
        path.names.push(name.to_string());
        rest = &rest[1..];
        let goes_on = is_path_mark(rest) && matches!(rest.get(2), Some(TokenTree::Ident(_)));
        if !goes_on {
            break;
        }
        rest = &rest[2..];
    }
    (path, rest)
}

fn is_path_mark(tokens: &[TokenTree]) -> bool {
    punct(tokens, 0, ':') && punct(tokens, 1, ':')
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ties of a crate as `from:line name to`.
    fn ties(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(String, &str)> = files.iter().map(|(path, text)| (format!("a/src/{path}.rs"), *text)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, *text)).collect();
        let tree = Tree::of(&files);
        let short = |path: &str| path.trim_start_matches("a/src/").trim_end_matches(".rs").to_owned();
        let modules = Modules::read(&tree, tree.get("a/src/lib.rs").unwrap());
        modules
            .ties()
            .iter()
            .map(|tie| format!("{}:{} {} {}", short(tie.from), tie.line, tie.name, short(tie.to)))
            .collect()
    }

    #[test]
    fn paths_of_every_form_are_followed() {
        let tied = |b: &str| ties(&[("lib", "mod b;\nmod c;"), ("b", b), ("c", "pub struct C;\npub fn f() {}")]);
        for b in [
            "use crate::c::C;",
            "use super::c::C;",
            "use self::super::c::C as D;",
            "use {std::fmt, crate::c::{self, C}};",
            "use crate::c; fn g(x: c::C) {}",
            "fn g() { let x = 0..crate::c::C::NEW; }",
            "pub(crate) use super::c::C;",
            "impl<T> From<T> for crate::c::C {}",
            "macro_rules! m { () => { $crate::c::C } }",
            "mod inner { use super::super::c::C; }",
        ] {
            assert_eq!(tied(b), ["b:1 C c"], "{b}");
        }
        assert_eq!(tied("use crate::c::*;"), ["b:1 c c"]);
        let alike = [("lib", "mod b;\nmod c;\npub use c::c;"), ("b", "use crate::{c::{C,},};"), ("c", "fn c() {}")];
        assert_eq!(ties(&alike), ["b:1 C c", "lib:3 c c"], "a comma at the end names nothing");
        assert_eq!(tied("\nuse crate::c::{C,\nf};"), ["b:2 C c", "b:3 f c"]);
    }

    #[test]
    fn what_is_no_name_of_the_crate_is_no_tie() {
        let files = |b| [("lib", "mod b;\nmod c;"), ("b", b), ("c", "pub struct C;")];
        for b in [
            "use c::C;",
            "use std::c::C;",
            "fn g(x: X) { x.c::<u8>(); ::c::C; }",
            "use crate::c;",
            "use crate::{c::{},};",
            "/// crate::c::C\nfn g() { \"crate::c::C\" }",
            "pub(in crate::c) fn g() {}",
        ] {
            assert!(ties(&files(b)).is_empty(), "{b}");
        }
    }

    #[test]
    fn what_tests_see_is_no_tie() {
        let files = |b| [("lib", "mod b;\nmod c;"), ("b", b), ("c", "pub struct C;"), ("b/suite", "use crate::c::C;")];
        for b in [
            "#[cfg(test)] use crate::c::C;",
            "#[cfg(test)]\n#[expect(x, reason = \"y\")]\nmod tests { use crate::c::C; }",
            "#[cfg(test)] mod suite;",
            "#[cfg(all(test, unix))] pub(crate) fn f<A, B>() { crate::c::C }",
            "#[cfg(test)] const X: C = { crate::c::C };",
            "enum E { #[cfg(test)] A(crate::c::C), B }",
        ] {
            assert!(ties(&files(b)).is_empty(), "{b}");
        }
        assert_eq!(ties(&files("#[cfg(test)] use std::fmt; use crate::c::C;")), ["b:1 C c"]);
        assert_eq!(ties(&files("#[cfg(any(test, feature = \"x\"))] mod suite;")), ["b/suite:1 C c"]);
    }

    #[test]
    fn exports_are_followed_to_what_defines() {
        let root = "mod a;\npub mod b;\npub use a::{A, fold as folded};\npub use b::*;";
        let of = |user: &str| {
            let files = [
                ("lib", &*format!("{root}\nmod z;")),
                ("a", "pub mod fold;\npub use fold::fold;\npub struct A;"),
                ("a/fold", "pub fn fold() {}"),
                ("b", "pub enum B {}\nmade! {}"),
                ("z", user),
            ]
            .map(|(path, text)| (path, text.to_owned()));
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, &**text)).collect();
            ties(&files).into_iter().filter(|tie| tie.starts_with('z')).collect::<Vec<_>>()
        };
        assert_eq!(of("use crate::A;"), ["z:1 A a"]);
        assert_eq!(of("use crate::B::{C, D};"), ["z:1 B b"]);
        assert_eq!(of("use super::folded;"), ["z:1 folded a/fold"]);
        assert_eq!(of("use crate::a::fold;"), ["z:1 fold a/fold"]);
        assert_eq!(of("use crate::a; fn f() { a::fold() }"), ["z:1 fold a/fold"]);
        // What a macro made is defined where the macro stands.
        assert_eq!(of("use crate::b::Made;"), ["z:1 Made b"]);
    }

    #[test]
    fn macros_have_a_file() {
        let b = "macro_rules! fail { () => {} }\npub(crate) use fail;";
        let files = |c| [("lib", "#[macro_use] mod b;\nmod c;"), ("b", b), ("c", c)];
        assert_eq!(ties(&files("fn f() { fail!() }")), ["c:1 fail b"]);
        assert_eq!(ties(&files("use crate::b::fail; fn f() { fail!() }")), ["c:1 fail b"]);
        assert_eq!(ties(&files("fn f() { crate::fail!() }")), ["c:1 fail b"]);
        assert!(ties(&files("macro_rules! fail { () => {} }\nfn f() { fail!() }")).is_empty());
        assert!(ties(&files("fn f(fail: bool) { fail != true }")).is_empty(), "a comparison");
    }

    #[test]
    fn circular_exports_end() {
        assert!(ties(&[("lib", "mod a;\npub use a::X;"), ("a", "pub use crate::X;")]).len() <= 2);
    }
}
