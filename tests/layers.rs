//! The house rules that a compiler does not check, over the text of all sources.
//!
//! The `mod` list in `src/lib.rs` is in layer order: a module uses only modules above it. Each
//! dependency has one door. `unsafe` and `libc` stay in `src/sys/`. Every rule is a function over
//! (path, text) pairs, so that the tests below also plant faults and see them found.

#[path = "layers/cases.rs"]
mod cases;
#[path = "layers/lexer.rs"]
mod lexer;
#[path = "layers/rules.rs"]
mod rules;

use rules::findings;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The dependencies and the like, and the only places that may mention each: a file, or a folder with
/// a `/` at the end.
const DOORS: [(&str, &[&str]); 9] = [
    ("libc", &["src/sys/"]),
    ("slab", &["src/selector.rs", "src/selector/", "src/executor/table.rs", "src/signal/hub.rs"]),
    ("futures_core", &["src/time.rs", "src/event.rs", "src/signal.rs", "src/net/"]),
    ("futures_io", &["src/io/futures_traits.rs"]),
    ("hyper", &["src/lib.rs", "src/hyper.rs", "src/io/hyper_traits.rs", "src/sys/hyper_buffer.rs"]),
    ("tokio", &["src/io/tokio_traits.rs"]),
    ("waker_fn", &["src/process/dropped.rs", "src/signal/port.rs"]),
    ("pin_project_lite", &["src/executor/join.rs", "src/time.rs"]),
    // Elsewhere std's safe cells do.
    ("UnsafeCell", &["src/sys/fifo.rs", "src/sys/lock.rs", "src/sys/task_cell.rs"]),
];

/// Names that have no place in this crate, and why.
const BANNED: [(&str, &str); 3] = [
    ("RawWaker", "wakers are made by `std::task::Wake`"),
    ("RawWakerVTable", "wakers are made by `std::task::Wake`"),
    ("SystemTime", "deadlines are monotonic"),
];

/// What a `cfg` may ask for. One line about `target_os`, in `src/lib.rs`, comes on top.
const CFG_WORDS: [&str; 7] = ["test", "doctest", "docsrs", "feature", "any", "all", "not"];

const MOST_LINES: usize = 600;

#[test]
fn the_sources_obey() {
    let sources = sources();
    let findings = findings(&sources);
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn the_table_of_cases_is_true() {
    let files = sources().into_iter().chain(texts("tests")).collect();
    let table = fs::read_to_string(root().join("tests/CASES.md")).unwrap();
    assert!(table.lines().filter(|line| line.starts_with("| ")).count() > 100);
    let findings = cases::findings(&table, &files);
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn a_false_table_of_cases_is_found() {
    let text = "// A01, B2: twice\n#[test]\n#[cfg(x)]\nfn one() {}\nfn none() {}\n(\"two\", f),\n";
    let files = BTreeMap::from([("tests/a.rs".to_string(), text.to_string())]);
    let find = |rows: &str| cases::findings(rows, &files);
    let good = "| B2 | a title | No test: for a good reason |\n";
    let row = |cell: &str| format!("| id | what |\n|---|---|\n| A01 | a title | {cell} |\n{good}");
    assert_eq!(find(&row("`tests/a.rs: one, two`, and why `x: y`")), [""; 0]);
    for (cell, what) in [
        ("", "an empty cell"),
        ("by its nature", "neither a test nor a reason"),
        ("No test: x", "neither a test nor a reason"),
        ("`tests/a.rs: one, three`", "no test `three` in `tests/a.rs`"),
        ("`tests/a.rs: none`", "no test `none`"),
        ("`tests/b.rs: one`", "no test `one` in `tests/b.rs`"),
    ] {
        let found = find(&row(cell));
        assert!(
            found.iter().any(|it| it.starts_with("line 3, A01: ") && it.contains(what)),
            "{found:?}"
        );
    }
    assert!(find(&row("`tests/a.rs: one`").repeat(2)).iter().any(|it| it.contains("twice")));
    assert_eq!(find(good), ["tests/a.rs: A01 has no row"]);
}

/// Types that nobody can name: of a sealed trait, and of the feature `hyper`.
const UNNAMED: [&str; 2] = ["Name", "Executor"];

#[test]
fn the_table_of_traits_has_every_public_type() {
    let table = fs::read_to_string(root().join("tests/executor/auto_traits.rs")).unwrap();
    let mut missing = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !path.starts_with("src/sys/")) {
        for line in text.lines().map(str::trim_start) {
            let keyword = ["pub struct ", "pub enum ", "pub type "].into_iter();
            let Some(rest) = keyword.filter_map(|it| line.strip_prefix(it)).next() else {
                continue;
            };
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let has_row = |line: &str| {
                let types = line.split_once(" => ").map_or("", |(types, _)| types);
                types.split(|c: char| !c.is_alphanumeric()).any(|word| word == name)
            };
            if !UNNAMED.contains(&name) && !table.lines().any(has_row) {
                missing.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "in no row of the table: {missing:#?}");
}

/// The crate's own folder.
fn root() -> PathBuf {
    // Asked at run time: two checkouts with one target folder may share this binary.
    let root = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(root)
}

/// All sources, as (path from the crate's root, text).
fn sources() -> Vec<(String, String)> {
    texts("src")
}

/// All Rust files in a folder, as (path from the crate's root, text).
fn texts(folder: &str) -> Vec<(String, String)> {
    let root = &root();
    let mut folders = vec![root.join(folder)];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What is built has no place in any rule, and comes and goes.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.push((name.to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort();
    sources
}

const LIB: &str =
    "mod sys;\npub mod selector;\nmod reactor;\nmod executor;\npub use executor::spawn;\n";

/// The findings in a small house of which one file is given.
fn findings_in(path: &str, text: &str) -> Vec<String> {
    let mut house = BTreeMap::from([
        ("src/lib.rs", LIB),
        ("src/sys/mod.rs", "use libc::c_int;\nmod epoll;\n"),
        ("src/selector.rs", "use crate::sys::{self, Epoll as E};\nmod timer;\n"),
        ("src/reactor.rs", "use crate::{selector::Selector, sys};\n"),
        ("src/executor.rs", "fn f() { crate::reactor::turn::<u8>() }\n"),
    ]);
    house.insert(path, text);
    let own = |(path, text): (&str, &str)| (path.to_string(), text.to_string());
    findings(&house.into_iter().map(own).collect::<Vec<_>>())
}

#[track_caller]
fn assert_found(path: &str, text: &str, line: usize, what: &str) {
    let found = findings_in(path, text);
    let at = format!("{path}:{line}: ");
    let fits = |finding: &String| finding.starts_with(&at) && finding.contains(what);
    assert!(found.iter().any(fits), "`{what}` at line {line} not in {found:#?}");
}

#[track_caller]
fn assert_clean(path: &str, text: &str) {
    assert_eq!(findings_in(path, text), [""; 0]);
}

#[test]
fn an_import_that_points_down_is_found() {
    for (text, line) in [
        ("use crate::reactor::Reactor;", 1),
        ("\nfn f() { crate::executor::run(); }", 2),
        ("use crate::{\n    sys,\n    executor::{a, b},\n};", 3),
        ("use crate::{sys::{a, b as c}, reactor};", 1),
        ("pub(in crate::reactor) fn f() {}", 1),
        ("use super::reactor;", 1),
        ("mod tests {\n use super::super::executor::spawn;\n}", 2),
        ("macro_rules! m { () => { $crate::reactor::f() } }", 1),
        ("fn f(x: impl Fn(crate::executor::Task)) {}", 1),
        ("pub use self::super::reactor::Reactor;", 1),
    ] {
        assert_found("src/selector.rs", text, line, "which is below");
    }
    for text in [
        "use super::super::{sys, reactor};",
        "use super::{A, super::reactor};",
        "impl super::super::reactor::Kind for A {}",
    ] {
        assert_found("src/selector/timer.rs", text, 1, "`reactor`, which is below");
    }
    assert_found("src/sys/mod.rs", "use super::selector;", 1, "below");
    let deep = "use super::super::super::selector::Selector;";
    assert_found("src/sys/a/b.rs", deep, 1, "below");
}

#[test]
fn an_import_of_the_roots_own_names_is_found() {
    assert_found("src/executor.rs", "use crate::Selector;", 1, "is no module");
    assert_found("src/executor.rs", "use crate::*;", 1, "is no module");
    assert_found("src/executor.rs", "use super::*;", 1, "is no module");
    assert_found("src/executor.rs", "use crate::{self, sys};", 1, "is no module");
    assert_found("src/executor.rs", "use crate as selio;", 1, "is no module");
    assert_found("src/timer.rs", "", 1, "not in the `mod` list");
}

#[test]
fn imports_that_point_up_are_fine() {
    assert_clean("src/selector.rs", "//! As in [`crate::executor`].\nuse crate::sys;");
    assert_clean("src/selector.rs", "const A: &str = \"crate::executor::run\"; /* crate::x::y */");
    assert_clean("src/selector/timer.rs", "use super::{Key, Other};\nuse super::super::sys;");
    assert_clean("src/selector.rs", "mod tests {\n    use super::Key;\n    use super::*;\n}");
    assert_clean("src/selector.rs", "mod tests { mod deep {} }\npub(crate) use crate::sys;");
    assert_clean(
        "src/executor.rs",
        "fn f(&self) -> impl Fn(&'static str) { self.g::<crate::sys::A>() }",
    );
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    let reactor = "src/reactor.rs";
    assert_found(reactor, "\n// SAFETY: no.\nfn f() { unsafe { g() } }", 3, "outside src/sys/");
    assert_found(reactor, "unsafe impl Send for X {}", 1, "outside src/sys/");
    assert_found(reactor, "#![allow(dead_code, unsafe_code)]", 1, "allowed outside");
    assert_found(reactor, "use libc::epoll_event;", 1, "outside of its door");
    assert_clean(
        reactor,
        "#![deny(unsafe_code)]\n// unsafe, libc\nconst A: &[u8] = b\"unsafe libc\";",
    );
}

#[test]
fn unsafe_code_without_a_reason_is_found() {
    let file = "src/sys/epoll.rs";
    let found = "without a SAFETY comment";
    assert_found(file, "fn f() {\n    unsafe { g() }\n}", 2, found);
    assert_found(file, "// SAFETY: this is of another.\ng();\nunsafe { g() }", 3, found);
    assert_found(file, "// A remark.\nunsafe impl Send for X {}", 2, found);
    assert_found(file, "// SAFETY: far away.\n\nunsafe { g() }", 3, found);
    assert_clean(file, "// SAFETY: it lives,\n// and it is ours.\nlet a =\n    unsafe { g() };");
    assert_clean(file, "// SAFETY: it lives.\n#[allow(x)]\nunsafe { g() }");
    assert_clean(file, "unsafe extern \"C\" {}\nunsafe fn f() {}");
}

#[test]
fn a_dependency_elsewhere_is_found() {
    for (dependency, _) in DOORS {
        let text = format!("fn f() {{ {dependency}::g() }}");
        assert_found("src/reactor.rs", &text, 1, dependency);
    }
    assert_clean("src/selector.rs", "use slab::Slab;");
}

#[test]
fn banned_names_are_found() {
    for (name, _) in BANNED {
        let text = format!("\nuse std::x::{{A, {name}}};");
        assert_found("src/sys/mod.rs", &text, 2, name);
    }
}

#[test]
fn other_conditions_are_found() {
    let reactor = "src/reactor.rs";
    assert_found(reactor, "#[cfg(unix)]\nfn f() {}", 1, "`cfg` of `unix`");
    assert_found(reactor, "#![cfg(not(target_os = \"linux\"))]", 1, "target_os");
    assert_found(reactor, "#[cfg(any(test, target_arch = \"x\"))]", 1, "target_arch");
    assert_found(reactor, "#[cfg_attr(miri, ignore)]", 1, "miri");
    assert_found(reactor, "fn f() { if cfg!(windows) {} }", 1, "windows");
    assert_clean(reactor, "#[cfg(all(test, not(feature = \"hyper\")))]\nmod tests {}");
    assert_clean(reactor, "#[cfg_attr(docsrs, doc(cfg))]\nfn f() { cfg!(debug_assertions) }");
    let line = "#[cfg(not(target_os = \"linux\"))]\n";
    assert_clean("src/lib.rs", &format!("{LIB}{line}"));
    assert_found("src/lib.rs", &format!("{LIB}{line}{line}"), 7, "target_os");
}

#[test]
fn a_long_file_is_found() {
    assert_clean("src/reactor.rs", &"//\n".repeat(MOST_LINES));
    assert_found("src/reactor.rs", &"//\n".repeat(MOST_LINES + 1), 601, "601 lines");
}

#[test]
fn literals_and_comments_hide_nothing() {
    let quirks = [
        "let a = '\"';",
        "let a = '\\'';",
        "let a = b'\\\\';",
        "let a: &'static str = r#\"a \" b\"#;",
        "let a = br\"\\\";",
        "let a = c\"\\\"\";",
        "/* a /* b */ \" */",
        "// it's",
        "let a = \"/*\";",
        "let r#type = 'x';",
        "fn f<'a>(a: &'a str, b: char) {}",
        "let a = 'ä'; let ä = 1.5e3;",
    ];
    for quirk in quirks {
        let text = format!("{quirk}\nunsafe fn f() {{}}");
        assert_found("src/reactor.rs", &text, 2, "`unsafe` outside");
    }
}
