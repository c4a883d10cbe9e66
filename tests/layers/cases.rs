//! `tests/CASES.md`, held to what is there: a test that it names, a row for each id.

use super::lexer::is_name;
use std::collections::{BTreeMap, BTreeSet};

/// How a row's last cell begins that names no test.
const NO_TEST: &str = "No test: ";

/// Whatever is wrong with the table, given the texts of all files by their paths.
pub(super) fn findings(table: &str, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut ids = BTreeSet::new();
    for (line, [id, title, held]) in (1..).zip(table.lines()).filter_map(row) {
        let mut add = |what: String| found.push(format!("line {line}, {id}: {what}"));
        if !ids.insert(id) {
            add("it stands twice in the table".to_string());
        }
        if title.is_empty() || held.is_empty() {
            add("an empty cell".to_string());
        }
        let tests: Vec<_> = tests(held).collect();
        if tests.is_empty() && held.strip_prefix(NO_TEST).is_none_or(|why| why.len() < 10) {
            add(format!("neither a test nor a reason after \"{NO_TEST}\""));
        }
        for (path, name) in tests {
            if !files.get(path).is_some_and(|text| has_test(text, name)) {
                add(format!("there is no test `{name}` in `{path}`"));
            }
        }
    }
    for (path, text) in files {
        for id in ids_in_comments(text).filter(|id| !ids.contains(id)) {
            found.push(format!("{path}: {id} has no row"));
        }
    }
    found
}

/// The cells of a line that is a row of the table.
fn row((line, text): (usize, &str)) -> Option<(usize, [&str; 3])> {
    let cells: Vec<_> = text.strip_prefix("| ")?.strip_suffix('|')?.split(" | ").collect();
    let [id, title, held] = cells[..] else { return None };
    is_id(id).then_some((line, [id, title.trim(), held.trim()]))
}

/// A letter and one or two digits.
fn is_id(word: &str) -> bool {
    let digits = word.strip_prefix(|letter: char| letter.is_ascii_uppercase()).unwrap_or_default();
    matches!(digits.len(), 1 | 2) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// The tests that a cell names, each with its file: `tests/a/b.rs: one, another`.
fn tests(cell: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    let lists = quoted.filter_map(|text| text.split_once(".rs: ").map(|(file, _)| (text, file)));
    lists.flat_map(|(text, file)| {
        let (path, names) = text.split_at(file.len() + ".rs".len());
        names[": ".len()..].split(", ").map(move |name| (path, name))
    })
}

/// Whether a text has a function for libtest, a case of a runner, or an example in the
/// documentation.
fn has_test(text: &str, name: &str) -> bool {
    if let Some(item) = name.strip_prefix("doc of ") {
        let definitions = ["fn", "struct"].map(|it| format!("pub {it} {item}"));
        return text.contains("/// ```") && definitions.iter().any(|it| text.contains(it));
    }
    let is_function = || {
        let mut after_attribute = false;
        text.lines().map(str::trim).any(|line| {
            let function = line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name));
            if function.is_some_and(|rest| rest.starts_with('(')) && after_attribute {
                return true;
            }
            after_attribute = line == "#[test]" || (after_attribute && line.starts_with("#["));
            false
        })
    };
    is_function() || !name.starts_with('_') && text.contains(&format!("\"{name}\","))
}

/// The ids at the beginning of comments, as in `// A01, A27: and why`.
fn ids_in_comments(text: &str) -> impl Iterator<Item = &str> {
    let comments = text.lines().filter_map(|line| line.trim().strip_prefix("// "));
    comments.flat_map(|comment| {
        let words = comment.split(|c: char| !is_name(c) && c != ',').map(|it| it.trim_matches(','));
        words.filter(|word| !word.is_empty()).take_while(|word| is_id(word))
    })
}
