//! Rules about text of any kind.

use std::net::Ipv4Addr;

use super::{
    finding::Finding,
    tree::{File, Tree},
};

/// The width of lines, as in `rustfmt.toml`.
const MAX_WIDTH: usize = 120;

/// The first folders of paths that exist on one machine, or for one user.
const MACHINE_FOLDERS: &[&str] = &["home", "mnt", "root", "tmp", "Users"];

/// Settings that send a build to some other package registry.
const REGISTRY_SETTINGS: &[&str] = &[
    concat!("index", "-url"),
    concat!("extra", "-index"),
    concat!("find", "-links"),
    concat!("replace", "-with"),
    concat!("[regis", "tries"),
];
/// The file that reads which registry the machine is set to.
const READS_SETTINGS: &str = "crates/ondine/src/package.rs";

/// Host names end so inside of an organisation.
const PRIVATE_DOMAINS: &[&str] = &[".corp", ".internal", ".intranet", ".lan", ".local"];

/// Files whose lines are words, paths among them.
const VOCABULARIES: &[&str] = &["merges.txt", "tokenizer.json", "vocab.json", "vocab.txt"];

/// Nothing stands after the last visible character of a line.
pub(super) fn trailing_whitespace(tree: &Tree) -> Vec<Finding> {
    let message = "whitespace at the end of the line; remove it";
    each_line(tree.files().filter(|file| !file.is_data()), |line| {
        line.ends_with(char::is_whitespace).then(|| message.to_owned())
    })
}

/// A comment is no wider than the code, which rustfmt keeps to this width; it leaves comments alone.
pub(super) fn long_lines(tree: &Tree) -> Vec<Finding> {
    each_line(tree.rust(), |line| {
        let is_comment = line.trim_start().starts_with("//");
        let width = line.chars().count();
        (is_comment && width > MAX_WIDTH)
            .then(|| format!("a comment of {width} columns, the limit is {MAX_WIDTH}; break the line"))
    })
}

/// The last line ends like every other, and is not empty.
pub(super) fn final_newline(tree: &Tree) -> Vec<Finding> {
    let written = tree.files().filter(|file| !file.is_data() && !file.text.is_empty());
    let bad = written.filter(|file| !file.text.ends_with('\n') || file.text.ends_with("\n\n"));
    let message = "the file does not end with exactly one newline; make it so";
    bad.map(|file| Finding::new(&file.path, file.text.lines().count(), message)).collect()
}

/// No path of the machine where a line was written.
pub(super) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    each_line(tree.files().filter(|file| !VOCABULARIES.contains(&file.name())), |line| {
        let path = machine_path(line)?;
        Some(format!("`{path}` is a path of one machine; write a relative path, or ask the system"))
    })
}

fn machine_path(line: &str) -> Option<String> {
    let starts = line.match_indices(['/', '\\']).map(|(at, _)| at);
    let of = |at: usize| {
        let before = line[..at].chars().next_back();
        let rest = &line[at + 1..];
        let folder = MACHINE_FOLDERS.iter().find(|folder| rest.starts_with(**folder))?;
        let after = rest[folder.len()..].chars().next();
        let absolute = before.is_none_or(|c| c == ':' || (!c.is_alphanumeric() && !"._-~/\\)}>*".contains(c)));
        let whole = after.is_none_or(|c| !c.is_alphanumeric() && !"_-.".contains(c));
        // Only the folder for passing files is itself a place; the others could be a route or a name.
        let inside = matches!(after, Some('/' | '\\')) || *folder == "tmp";
        (absolute && whole && inside).then(|| format!("{}{folder}", &line[at..=at]))
    };
    starts.into_iter().find_map(of)
}

/// No registry or host that only some can reach.
pub(super) fn private_hosts(tree: &Tree) -> Vec<Finding> {
    let reads = |file: &&File| file.path == READS_SETTINGS;
    let settings =
        each_line(tree.files().filter(|file| !VOCABULARIES.contains(&file.name()) && !reads(file)), |line| {
            let setting = REGISTRY_SETTINGS.iter().find(|setting| line.contains(**setting))?;
            Some(format!("`{setting}` chooses a registry; leave that to whoever builds"))
        });
    let hosts = each_line(tree.files().filter(|file| !VOCABULARIES.contains(&file.name())), |line| {
        let hosts = line.match_indices("://").map(|(at, mark)| host(&line[at + mark.len()..]));
        let private = hosts.into_iter().find(|host| is_private(host))?;
        Some(format!("`{private}` is a host that only some can reach; name a public one"))
    });
    settings.into_iter().chain(hosts).collect()
}

/// The host at the beginning of a URL without its scheme.
fn host(url: &str) -> &str {
    let authority = url.split(|c: char| c.is_whitespace() || "/\"'`)>?#".contains(c)).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default()
}

fn is_private(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_private())
        || PRIVATE_DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// Findings where `message` says something to a line.
fn each_line<'a>(files: impl Iterator<Item = &'a File>, message: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let of = |file: &'a File| -> Vec<Finding> {
        let found = file.lines().filter_map(|(number, line)| Some(Finding::new(&file.path, number, message(line)?)));
        found.collect()
    };
    files.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lines, *};

    #[test]
    fn trailing_whitespace_is_found() {
        assert_eq!(lines(trailing_whitespace, "a.md", "a\nb \n\t\n"), [2, 3]);
        assert!(lines(trailing_whitespace, "a.md", "a\r\n b\n").is_empty());
        assert!(lines(trailing_whitespace, "a/tests/data/b.txt", "a \n").is_empty());
    }

    #[test]
    fn wide_comments_are_found() {
        let comment = |width: usize| format!("\n    //! {}\n", "ä".repeat(width - 8));
        assert_eq!(lines(long_lines, "a.rs", &comment(MAX_WIDTH + 1)), [2]);
        assert!(lines(long_lines, "a.rs", &comment(MAX_WIDTH)).is_empty());
        assert!(lines(long_lines, "a.md", &comment(MAX_WIDTH + 1)).is_empty());
        let text = format!("let a = \"{}\";", "// ".repeat(MAX_WIDTH));
        assert!(lines(long_lines, "a.rs", &text).is_empty(), "a text that cannot be broken");
        let settings = include_str!("../../../rustfmt.toml");
        assert!(settings.contains(&format!("max_width = {MAX_WIDTH}")));
    }

    #[test]
    fn files_end_with_one_newline() {
        assert_eq!(lines(final_newline, "a.md", "a\nb"), [2]);
        assert_eq!(lines(final_newline, "a.md", "a\n\n"), [2]);
        assert!(lines(final_newline, "a.md", "a\n").is_empty());
        assert!(lines(final_newline, "a.md", "").is_empty());
    }

    #[test]
    fn machine_paths_are_found() {
        let check = |line: &str| lines(machine_paths, "a.md", line).len();
        for folder in MACHINE_FOLDERS {
            assert_eq!(check(&format!("see `/{folder}/a/b`")), 1, "{folder}");
        }
        assert_eq!(check(&format!("C:\\{}\\me", "Users")), 1);
        assert_eq!(check(&format!("--out=/{}", "tmp")), 1);
        for line in
            ["target/tmp/a", "./home/a", "https://a.org/home/b", "/homes/a", "GET /home", "/usr/bin/env", "~/tmp"]
        {
            assert_eq!(check(line), 0, "{line}");
        }
        assert!(lines(machine_paths, "m/tokenizer.json", &format!("/{}/a", "home")).is_empty());
    }

    #[test]
    fn private_hosts_are_found() {
        let check = |line: &str| lines(private_hosts, "a.toml", line).len();
        assert_eq!(check(&["http://me@10.0.0", ".7:80/x"].concat()), 1);
        assert_eq!(check(&["see https://a.org and \"https://crates.acme", ".internal\""].concat()), 1);
        for setting in REGISTRY_SETTINGS {
            assert_eq!(check(&format!("pip --{setting} x")), 1, "{setting}");
        }
        assert_eq!(check("http://localhost:8080/ and http://127.0.0.1/ and https://a.org/b.internal"), 0);
    }
}
