//! Rules about who may know whom within a crate: its rooms stand on floors, and no files name each other in a circle.
//!
//! A room is a module at the top of a crate, with all that is inside. `floors.toml` lists the rooms of each crate floor
//! by floor, from below; the root of the crate stands above them all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use toml::{Table, Value};

use super::{
    finding::Finding,
    manifest::manifests,
    modules::{Modules, Tie},
    tree::Tree,
};

const FLOORS: &str = "floors.toml";

/// A crate of the repository, with what `floors.toml` says about it.
struct House<'a> {
    package: String,
    /// The modules of its library and of its program, where it has them.
    roots: Vec<Modules<'a>>,
    /// The number of each room's floor, from below.
    floors: BTreeMap<String, usize>,
    /// Rooms that are listed twice.
    doubles: Vec<String>,
    knots: Vec<Knot>,
    walls: Vec<Wall>,
    /// Where `floors.toml` speaks of it, if it does.
    line: Option<usize>,
}

/// Modules that may name each other in a circle.
struct Knot {
    /// The module that holds them all: `program`, `cpu::loops`.
    room: String,
    reason: String,
}

/// A room that only some others may name, though it stands below more.
struct Wall {
    room: String,
    named_by: Vec<String>,
    reason: String,
}

/// A room names only rooms on lower floors.
pub(super) fn names_lower_only(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for house in houses(tree) {
        for root in &house.roots {
            let rooms = rooms(root);
            for tie in root.ties() {
                let (Some(from), to) = (rooms[tie.from], rooms[tie.to]) else { continue };
                if let Some(place) = house.not_below(from, to) {
                    let to = to.unwrap_or("the root");
                    let message = format!(
                        "`{from}` names `{}` of `{to}`, which stands {place} it; move what it needs below both",
                        tie.name
                    );
                    findings.push(Finding::new(tie.from, tie.line, message));
                }
            }
        }
    }
    findings
}

/// A room behind a wall is named by those alone for whom it has a door.
pub(super) fn walled_rooms(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for house in houses(tree) {
        for root in &house.roots {
            let rooms = rooms(root);
            for tie in root.ties() {
                let (Some(from), Some(to)) = (rooms[tie.from], rooms[tie.to]) else { continue };
                let is_in_the_way =
                    |wall: &&Wall| wall.room == to && to != from && !wall.named_by.iter().any(|by| by == from);
                if let Some(wall) = house.walls.iter().find(is_in_the_way) {
                    let message = format!("`{from}` names `{}` of `{to}`: {}", tie.name, wall.reason);
                    findings.push(Finding::new(tie.from, tie.line, message));
                }
            }
        }
    }
    findings
}

/// Every room has a floor, and every floor is of rooms that exist.
pub(super) fn listed(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = declared(tree) {
        return vec![Finding::new(FLOORS, 1, format!("unreadable ({error}); list the floors of each crate in it"))];
    }
    let houses = houses(tree);
    for house in &houses {
        let package = &house.package;
        let Some(line) = house.line else {
            findings.push(Finding::new(FLOORS, 1, format!("`{package}` has no floors; list its rooms from below")));
            continue;
        };
        let rooms: BTreeSet<&str> = house.roots.iter().flat_map(|root| rooms(root).into_values().flatten()).collect();
        for room in rooms.iter().filter(|room| !house.floors.contains_key(**room)) {
            let message = format!("`{room}` of `{package}` has no floor; put it above all that it names");
            findings.push(Finding::new(FLOORS, line, message));
        }
        for room in house.floors.keys().filter(|room| !rooms.contains(&***room)) {
            findings.push(Finding::new(FLOORS, line, format!("`{package}` has no room `{room}`; remove it")));
        }
        for room in &house.doubles {
            findings.push(Finding::new(
                FLOORS,
                line,
                format!("`{room}` of `{package}` stands on two floors; keep one"),
            ));
        }
    }
    for package in declared(tree).into_iter().flatten().map(|(package, _)| package) {
        if !houses.iter().any(|house| house.package == package) {
            findings.push(Finding::new(
                FLOORS,
                line_of(tree, &package),
                format!("there is no crate `{package}`; remove it"),
            ));
        }
    }
    findings
}

/// No files name each other in a circle, unless they are a knot with a reason.
pub(super) fn no_circles(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for house in houses(tree) {
        let mut tied = BTreeSet::new();
        for root in &house.roots {
            let modules: BTreeMap<&str, String> = root.files().map(|(path, names)| (path, names.join("::"))).collect();
            let ties = root.ties();
            for circle in circles(&ties) {
                let inside = |knot: &&Knot| circle.files.iter().all(|file| is_within(&modules[file], &knot.room));
                match house.knots.iter().find(inside) {
                    Some(knot) => drop(tied.insert(&knot.room)),
                    None => findings.push(circle.finding()),
                }
            }
        }
        let line = house.line.unwrap_or(1);
        for knot in &house.knots {
            if !tied.contains(&knot.room) {
                findings.push(Finding::new(FLOORS, line, format!("`{}` is no knot any more; remove it", knot.room)));
            } else if knot.reason.is_empty() {
                findings.push(Finding::new(FLOORS, line, format!("the knot `{}` has no reason; add it", knot.room)));
            }
        }
    }
    findings
}

impl House<'_> {
    /// The lowest floors; rooms that name each other in a circle, and all above them, are on the last.
    fn lowest(&self) -> Vec<Vec<&str>> {
        let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for root in &self.roots {
            let rooms = rooms(root);
            names.extend(rooms.values().flatten().map(|room| (*room, BTreeSet::new())));
            for tie in root.ties() {
                if let (Some(from), Some(to)) = (rooms[tie.from], rooms[tie.to])
                    && from != to
                {
                    names.entry(from).or_default().insert(to);
                }
            }
        }
        let mut floors = Vec::new();
        while !names.is_empty() {
            let stands = |named: &BTreeSet<&str>| named.iter().all(|named| !names.contains_key(named));
            let mut floor: Vec<&str> = names.iter().filter(|(_, named)| stands(named)).map(|(room, _)| *room).collect();
            if floor.is_empty() {
                floor = names.keys().copied().collect();
            }
            names.retain(|room, _| !floor.contains(room));
            floors.push(floor);
        }
        floors
    }

    /// Where `to` stands as seen by `from`, unless that is below; `to` is none for the root of the crate.
    fn not_below(&self, from: &str, to: Option<&str>) -> Option<&'static str> {
        let Some(to) = to else { return Some("above") };
        // A room without a floor is the business of `listed`.
        let (of_from, of_to) = (self.floors.get(from)?, self.floors.get(to)?);
        match of_to.cmp(of_from) {
            _ if from == to => None,
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal => Some("beside"),
            std::cmp::Ordering::Greater => Some("above"),
        }
    }
}

/// The lowest floors on which the rooms of each crate can stand, as `floors.toml` writes them.
pub(super) fn lowest(tree: &Tree) -> String {
    houses(tree).iter().map(|house| format!("[{}]\nfloors = {:?}\n", house.package, house.lowest())).collect()
}

/// The crates that have sources.
fn houses(tree: &Tree) -> Vec<House<'_>> {
    let declared = declared(tree).unwrap_or_default();
    let mut houses = Vec::new();
    for manifest in manifests(tree) {
        let folder = manifest.file.path.trim_end_matches("Cargo.toml");
        let roots = ["src/lib.rs", "src/main.rs"].map(|root| tree.get(&format!("{folder}{root}")));
        let roots: Vec<_> = roots.into_iter().flatten().map(|root| Modules::read(tree, root)).collect();
        if roots.is_empty() {
            continue;
        }
        let package = manifest.package;
        let table = declared.get(&package).and_then(Value::as_table);
        let line = table.map(|_| line_of(tree, &package));
        let (floors, doubles) = table.map(floors).unwrap_or_default();
        let knots = table.map(knots).unwrap_or_default();
        let walls = table.map(walls).unwrap_or_default();
        houses.push(House { package, roots, floors, doubles, knots, walls, line });
    }
    houses
}

/// What `floors.toml` says: a table for each crate.
fn declared(tree: &Tree) -> Result<Table, String> {
    let file = tree.get(FLOORS).ok_or("it is missing")?;
    file.text.parse().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// The line where `floors.toml` begins to speak of a crate.
fn line_of(tree: &Tree, package: &str) -> usize {
    let header = format!("[{package}]");
    let lines = tree.get(FLOORS).into_iter().flat_map(|file| file.lines());
    lines.into_iter().find(|(_, line)| line.trim() == header).map_or(1, |(number, _)| number)
}

/// The floor of each room, and the rooms that have two.
fn floors(table: &Table) -> (BTreeMap<String, usize>, Vec<String>) {
    let (mut floors, mut doubles) = (BTreeMap::new(), Vec::new());
    let listed = table.get("floors").and_then(Value::as_array).into_iter().flatten();
    for (number, floor) in listed.enumerate() {
        for room in floor.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if floors.insert(room.to_owned(), number).is_some() {
                doubles.push(room.to_owned());
            }
        }
    }
    (floors, doubles)
}

fn knots(table: &Table) -> Vec<Knot> {
    let knots = table.get("knots").and_then(Value::as_array).into_iter().flatten();
    knots.map(|knot| Knot { room: text(knot, "room"), reason: text(knot, "reason") }).collect()
}

fn walls(table: &Table) -> Vec<Wall> {
    let names = |wall: &Value| {
        let names = wall.get("named_by").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let walls = table.get("walls").and_then(Value::as_array).into_iter().flatten();
    walls.map(|wall| Wall { room: text(wall, "room"), named_by: names(wall), reason: text(wall, "reason") }).collect()
}

fn text(table: &Value, key: &str) -> String {
    table.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The room of each file; none for the root.
fn rooms<'m>(root: &'m Modules<'_>) -> BTreeMap<&'m str, Option<&'m str>> {
    root.files().map(|(path, names)| (path, names.first().map(String::as_str))).collect()
}

/// True if the module `inner` is `outer` or stands within it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Files of which each names, through others, each.
struct Circle<'t> {
    files: Vec<&'t str>,
    /// A shortest way around.
    way: Vec<&'t Tie<'t>>,
}

impl<'t> Circle<'t> {
    fn finding(&self) -> Finding {
        let first = self.way[0];
        let short = |path: &'t str| path.split_once("/src/").map_or(path, |(_, path)| path);
        let step =
            |tie: &&Tie<'t>| format!("{}:{} names `{}` of {}", short(tie.from), tie.line, tie.name, short(tie.to));
        let steps: Vec<String> = self.way.iter().map(step).collect();
        let files: Vec<&str> = self.files.iter().map(|file| short(file)).collect();
        let others = match self.files.len() - self.way.len() {
            0 => String::new(),
            _ => format!(" (one way around, of the circles of {})", files.join(", ")),
        };
        let message = format!("a circle: {}{others}; move what they share below them", steps.join(", "));
        Finding::new(first.from, first.line, message)
    }
}

/// The circles among files: files that reach each other are one.
fn circles<'t>(ties: &'t [Tie<'t>]) -> Vec<Circle<'t>> {
    let mut to: BTreeMap<&str, Vec<&Tie>> = BTreeMap::new();
    for tie in ties {
        to.entry(tie.from).or_default().push(tie);
    }
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for start in to.keys().copied() {
        if seen.contains(start) {
            continue;
        }
        let back = |file: &str| way(&to, file, start).is_some();
        let files: Vec<&str> =
            to.keys().copied().filter(|file| way(&to, start, file).is_some() && back(file)).collect();
        seen.extend(files.iter().copied());
        let ways = files.iter().filter_map(|file| way(&to, file, file));
        if let Some(way) = ways.min_by_key(Vec::len) {
            circles.push(Circle { files, way });
        }
    }
    circles
}

/// A shortest way of at least one tie from a file to another, or around to itself.
fn way<'t>(to: &BTreeMap<&str, Vec<&'t Tie<'t>>>, from: &str, end: &str) -> Option<Vec<&'t Tie<'t>>> {
    let mut arrived: BTreeMap<&str, &Tie> = BTreeMap::new();
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        for tie in to.get(file).into_iter().flatten() {
            if arrived.contains_key(tie.to) {
                continue;
            }
            arrived.insert(tie.to, tie);
            next.push_back(tie.to);
        }
    }
    let mut ties = vec![*arrived.get(end)?];
    while ties[0].from != from {
        ties.insert(0, arrived.get(ties[0].from)?);
    }
    Some(ties)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings of a crate `a` with these floors and modules, without `lib.rs`, which declares them.
    fn found(check: fn(&Tree) -> Vec<Finding>, floors: &str, files: &[(&str, &str)]) -> Vec<String> {
        let modules = files.iter().filter(|(path, _)| !path.contains('/'));
        let root: String = modules.map(|(path, _)| format!("mod {path};\n")).collect();
        let files = files.iter().map(|(path, text)| (format!("crates/a/src/{path}.rs"), (*text).to_owned()));
        let beside = [
            ("crates/a/Cargo.toml", "[package]\nname = \"a\"\n".to_owned()),
            ("crates/a/src/lib.rs", root),
            (FLOORS, format!("[a]\n{floors}\n")),
        ];
        let files: Vec<(String, String)> = files.chain(beside.map(|(path, text)| (path.to_owned(), text))).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rooms_name_lower_floors_only() {
        let check = |floors, b: &str| found(names_lower_only, floors, &[("b", b), ("c", "pub struct C;")]);
        let b = "\nuse crate::c::C;";
        assert!(check("floors = [[\"c\"], [\"b\"]]", b).is_empty());
        let above = "crates/a/src/b.rs:2: `b` names `C` of `c`, which stands above it; move what it needs below both";
        assert_eq!(check("floors = [[\"b\"], [\"c\"]]", b), [above]);
        assert_eq!(check("floors = [[\"b\", \"c\"]]", b), [above.replace("above", "beside")]);
        assert_eq!(check("floors = [[\"c\"], [\"b\"]]", "use crate::made;").len(), 1, "the root is above");
    }

    #[test]
    fn a_room_may_name_itself() {
        let files = [("b", "mod c;\nuse c::C;"), ("b/c", "pub struct C;")];
        assert!(found(names_lower_only, "floors = [[\"b\"]]", &files).is_empty());
    }

    #[test]
    fn walls_have_doors() {
        let walls = "walls = [{ room = \"c\", named_by = [\"d\"], reason = \"ask d\" }]";
        let c = "mod e;\nuse e::E;\npub struct C;";
        let files = [("b", "\nuse crate::c::C;"), ("c", c), ("c/e", "pub struct E;"), ("d", "use crate::c::C;")];
        assert_eq!(found(walled_rooms, walls, &files), ["crates/a/src/b.rs:2: `b` names `C` of `c`: ask d"]);
    }

    #[test]
    fn the_lowest_floors_are_found() {
        let check = |files: &[(&str, &str)]| found(|tree| vec![Finding::new("", 0, lowest(tree))], "", files).remove(0);
        let files =
            [("b", "use crate::{c::C, d::D};"), ("c", "use crate::d::D; pub struct C;"), ("d", "pub struct D;")];
        assert!(check(&files).ends_with("[a]\nfloors = [[\"d\"], [\"c\"], [\"b\"]]\n"));
        let files = [("b", "use crate::c::C; pub struct B;"), ("c", "use crate::b::B; pub struct C;"), ("d", "")];
        assert!(check(&files).ends_with("[a]\nfloors = [[\"d\"], [\"b\", \"c\"]]\n"));
    }

    #[test]
    fn rooms_are_listed() {
        let check = |floors| found(listed, floors, &[("b", ""), ("c", "")]);
        assert!(check("floors = [[\"b\"], [\"c\"]]").is_empty());
        assert_eq!(
            check("\nfloors = [[\"b\"]]"),
            ["floors.toml:1: `c` of `a` has no floor; put it above all that it names"]
        );
        assert_eq!(check("floors = [[\"b\", \"d\"], [\"c\"]]"), ["floors.toml:1: `a` has no room `d`; remove it"]);
        assert_eq!(
            check("floors = [[\"b\", \"c\"], [\"b\"]]"),
            ["floors.toml:1: `b` of `a` stands on two floors; keep one"]
        );
        assert_eq!(check("floors = [[\"b\", \"c\"]]\n[z]"), ["floors.toml:3: there is no crate `z`; remove it"]);
        assert!(check("floors = [").first().is_some_and(|finding| finding.contains("unreadable")));
        let manifest = ("crates/a/Cargo.toml", "[package]\nname = \"a\"\n");
        let check = |floors| listed(&Tree::of(&[manifest, ("crates/a/src/lib.rs", ""), (FLOORS, floors)])).len();
        assert_eq!((check("[a]\n"), check("")), (0, 1));
    }

    #[test]
    fn circles_are_found() {
        let check = |knots, files: &[(&str, &str)]| found(no_circles, knots, files);
        let two = [("b", "use crate::c::C;\npub struct B;"), ("c", "\nuse crate::b::B;\npub struct C;")];
        let message = "crates/a/src/b.rs:1: a circle: b.rs:1 names `C` of c.rs, c.rs:2 names `B` of b.rs; move what they \
            share below them";
        assert_eq!(check("", &two), [message]);
        let inside = [("b", "mod c;\nuse c::C;\npub struct B;"), ("b/c", "use super::B;\npub struct C;")];
        assert_eq!(check("", &inside).len(), 1, "also inside a room");
        let root = [("b", "use crate::b;\nfn f() { crate::b::g() } fn g() {}")];
        assert!(check("", &root).is_empty(), "a file alone is none");
        let way = [("b", "use crate::c::C;"), ("c", "use crate::d::D;\npub struct C;"), ("d", "pub struct D;")];
        assert!(check("", &way).is_empty(), "nor is a way without return");
    }

    #[test]
    fn knots_are_allowed_with_a_reason() {
        let inside = [("b", "mod c;\nuse c::C;\npub struct B;"), ("b/c", "use super::B;\npub struct C;")];
        let check = |room: &str, reason: &str, files: &[(&str, &str)]| {
            found(no_circles, &format!("knots = [{{ room = \"{room}\", reason = \"{reason}\" }}]"), files).len()
        };
        assert_eq!(check("b", "an interpreter", &inside), 0);
        assert_eq!(check("b", "", &inside), 1);
        assert_eq!(check("b::c", "too narrow", &inside), 2, "the circle, and a knot that is none");
        assert_eq!(check("b", "none", &[("b", "")]), 1);
    }
}
