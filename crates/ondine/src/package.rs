//! Where packages come from: the index that pip of this machine is configured for, in the simple protocol (PEP 503 and
//! PEP 691).

use std::{
    env,
    path::{Path, PathBuf},
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use serde::Deserialize;

use crate::fetch::Client;

/// Where packages come from if nobody says otherwise.
const PUBLIC: &str = "https://pypi.org/simple";
/// What pages of an index may be.
const PAGES: &str = "application/vnd.pypi.simple.v1+json, text/html;q=0.5";

/// What pip is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// The address of the index.
    pub(crate) address: String,
    /// A file with the certificates that are trusted.
    pub(crate) roots: Option<PathBuf>,
}

impl Index {
    /// What pip is told on this machine: by its variables, else by its files, the last one first.
    pub(crate) fn configured() -> Self {
        let files: Vec<String> = config_files().iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        Self::new(|name| env::var(name).ok(), &files)
    }

    fn new(variable: impl Fn(&str) -> Option<String>, files: &[String]) -> Self {
        let option = |name: &str| {
            let variable = variable(&format!("PIP_{}", name.replace('-', "_").to_uppercase()));
            let filed = || files.iter().rev().find_map(|text| option_of(text, name));
            variable.filter(|value| !value.is_empty()).or_else(filed)
        };
        Self {
            address: option("index-url").unwrap_or_else(|| PUBLIC.to_owned()),
            roots: option("cert").map(Into::into),
        }
    }

    /// The address of a file of a package.
    ///
    /// # Errors
    /// If the index cannot be read, or has no such file.
    pub(crate) fn find(&self, client: &Client, package: &str, file: &str) -> Result<String> {
        let page = format!("{}/{package}/", self.address.trim_end_matches('/'));
        let (text, kind) = client.page(&page, PAGES)?;
        let files = if kind.contains("json") { from_json(&text).at(|| &page)? } else { from_html(&text) };
        match files.into_iter().find(|(name, _)| name == file) {
            Some((_, address)) => Ok(resolve(&page, &address)),
            None => fail!(Missing, "{page}: there is no {file} in this index"),
        }
    }
}

/// The files in which pip looks for its configuration, the one that counts most last.
fn config_files() -> Vec<PathBuf> {
    if let Some(only) = env::var_os("PIP_CONFIG_FILE") {
        return vec![only.into()];
    }
    let home = env::home_dir();
    let name = if cfg!(windows) { "pip.ini" } else { "pip.conf" };
    let below = |folder: Option<PathBuf>, rest: &str| folder.map(|folder| folder.join(rest).join(name));
    let config =
        env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".config")));
    [
        Some(Path::new("/etc").join(name)),
        below(env::var_os("PROGRAMDATA").map(Into::into), "pip"),
        below(home, if cfg!(windows) { "pip" } else { ".pip" }),
        below(config, "pip"),
        below(env::var_os("APPDATA").map(Into::into), "pip"),
        env::var_os("VIRTUAL_ENV").map(|folder| Path::new(&folder).join(name)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An option in the text of a configuration, in the part for all commands or that for downloads.
fn option_of(text: &str, name: &str) -> Option<String> {
    let (mut part, mut found) = ("", None);
    for line in text.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            part = head.trim_end_matches(']');
        } else if let Some((key, value)) = line.split_once(['=', ':'])
            && ["global", "download"].contains(&part)
            && key.trim().replace('_', "-") == name
        {
            found = Some(value.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| !value.is_empty());
        }
    }
    found
}

fn from_json(text: &str) -> Result<Vec<(String, String)>> {
    #[derive(Deserialize)]
    struct Listed {
        filename: String,
        url: String,
    }
    #[derive(Deserialize)]
    struct Page {
        files: Vec<Listed>,
    }
    match serde_json::from_str::<Page>(text) {
        Ok(page) => Ok(page.files.into_iter().map(|file| (file.filename, file.url)).collect()),
        Err(error) => Err(Error::new(ErrorKind::Format, format!("no page of an index: {error}"))),
    }
}

/// The links of a page: their texts and addresses.
fn from_html(text: &str) -> Vec<(String, String)> {
    let link = |part: &str| {
        let (tag, rest) = part.split_once('>')?;
        let (_, value) = tag.split_once("href=")?;
        let quote = value.chars().next().filter(|c| ['"', '\''].contains(c))?;
        let address = value.get(1..)?.split(quote).next()?;
        let name = rest.split('<').next()?.trim();
        Some((name.to_owned(), address.replace("&amp;", "&")))
    };
    text.split("<a ").skip(1).filter_map(link).collect()
}

/// An address as a page means it, without what says something about the file.
fn resolve(page: &str, address: &str) -> String {
    let address = address.split('#').next().unwrap_or_default();
    let (scheme, rest) = page.split_once("://").unwrap_or(("https", page));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if address.contains("://") {
        return address.to_owned();
    }
    if let Some(address) = address.strip_prefix("//") {
        return format!("{scheme}://{address}");
    }
    if address.starts_with('/') {
        return format!("{scheme}://{host}{address}");
    }
    let mut folders: Vec<&str> = path.split('/').collect();
    folders.pop();
    for part in address.split('/') {
        match part {
            ".." => _ = folders.pop(),
            "." => {}
            part => folders.push(part),
        }
    }
    format!("{scheme}://{host}/{}", folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_says_where_packages_come_from() {
        let none = |_: &str| None;
        assert_eq!(Index::new(none, &[]), Index { address: PUBLIC.into(), roots: None });
        let files = [
            "[global]\nindex-url = http://a/simple\ncert: /c.pem\n".to_owned(),
            "[install]\nindex_url=x\n[download]\nindex_url = 'http://b/'\n".to_owned(),
        ];
        assert_eq!(Index::new(none, &files), Index { address: "http://b/".into(), roots: Some("/c.pem".into()) });
        let variable = |name: &str| (name == "PIP_INDEX_URL").then(|| "http://c".to_owned());
        assert_eq!(Index::new(variable, &files).address, "http://c");
    }

    #[test]
    fn pages_are_read_in_both_forms() {
        let html = "<html><a href=\"../../p/f-1.whl#sha256=ab\" data-x>f-1.whl</a>\n<a href='https://h/g?a=1&amp;b=2'>g</a><a>h</a>";
        let files = from_html(html);
        assert_eq!(files[0], ("f-1.whl".into(), "../../p/f-1.whl#sha256=ab".into()));
        assert_eq!(files[1], ("g".into(), "https://h/g?a=1&b=2".into()));
        assert_eq!(
            from_json("{\"files\": [{\"filename\": \"f\", \"url\": \"u\", \"hashes\": {}}]}").unwrap(),
            [("f".into(), "u".into())]
        );
        assert!(from_json("[]").is_err());
        let page = "http://h:1/simple/p/";
        let found =
            ["../../p/f-1.whl#sha256=ab", "/x", "//o/x", "https://o/x", "./x"].map(|address| resolve(page, address));
        assert_eq!(
            found,
            ["http://h:1/p/f-1.whl", "http://h:1/x", "http://o/x", "https://o/x", "http://h:1/simple/p/x"]
        );
    }
}
