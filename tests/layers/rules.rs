//! The rules: what is wrong with a set of sources.

use super::lexer::{Lexer, Token, is_name};
use super::{BANNED, CFG_WORDS, DOORS, MOST_LINES};

/// Whatever is wrong with the sources, as `path:line: what`.
pub(super) fn findings(sources: &[(String, String)]) -> Vec<String> {
    let files: Vec<File> = sources.iter().map(|(path, text)| File::new(path, text)).collect();
    let root = files.iter().find(|file| file.path == "src/lib.rs");
    let layers = module_list(root.expect("a src/lib.rs"));
    let mut found = Findings::default();
    for file in &files {
        check_layers(file, &layers, &mut found);
        check_unsafe(file, &mut found);
        check_doors(file, &mut found);
        check_banned(file, &mut found);
        check_length(file, &mut found);
    }
    check_cfg(&files, &mut found);
    found.0
}

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, file: &File, line: usize, what: String) {
        self.0.push(format!("{}:{line}: {what}", file.path));
    }
}

/// A source, cut into tokens.
struct File<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
    tokens: Vec<Token>,
}

impl<'a> File<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, lines: text.lines().collect(), tokens: Lexer::tokens(text) }
    }

    /// The file's place in the tree of modules: `src/selector/timer.rs` is `[selector, timer]`.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<String> = path.split('/').map(String::from).collect();
        if module.last().is_some_and(|name| name == "mod" || name == "lib") {
            module.pop();
        }
        module
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| match place.ends_with('/') {
            true => self.path.starts_with(place),
            false => self.path == *place,
        })
    }

    /// The token's text, or nothing past the end.
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }
}

/// The modules `lib.rs` declares, in their order.
fn module_list(root: &File) -> Vec<String> {
    let starts = (0..root.tokens.len()).filter(|&at| root.text(at) == "mod");
    let declared = starts.filter(|at| root.text(at + 2) == ";");
    declared.map(|at| root.text(at + 1).to_string()).collect()
}

fn check_layers(file: &File, layers: &[String], found: &mut Findings) {
    let Some(own) = file.module().first().cloned() else {
        return; // lib.rs itself re-exports from everywhere
    };
    let place = |name: &str| layers.iter().position(|layer| layer == name);
    let Some(own_place) = place(&own) else {
        return found.add(file, 1, format!("`{own}` is not in the `mod` list of lib.rs"));
    };
    for (target, line) in (Paths { file, edges: Vec::new() }).collect() {
        match place(&target) {
            Some(there) if there <= own_place => {}
            Some(_) => found.add(file, line, format!("`{own}` uses `{target}`, which is below it")),
            None => found.add(
                file,
                line,
                format!("`crate::{target}` is no module: name the module the item lives in"),
            ),
        }
    }
}

/// Finds the top-level names that a file's `crate::`, `super::` and `self::` paths lead to.
struct Paths<'a> {
    file: &'a File<'a>,
    edges: Vec<(String, usize)>,
}

impl Paths<'_> {
    fn collect(mut self) -> Vec<(String, usize)> {
        let mut module = self.file.module();
        let mut open_braces = 0;
        let mut inline_modules = Vec::new();
        let mut at = 0;
        while at < self.file.tokens.len() {
            match self.file.text(at) {
                "mod" if self.file.text(at + 2) == "{" => {
                    module.push(self.file.text(at + 1).to_string());
                    inline_modules.push(open_braces);
                }
                "{" => open_braces += 1,
                "}" => {
                    open_braces -= 1;
                    if inline_modules.last() == Some(&open_braces) {
                        inline_modules.pop();
                        module.pop();
                    }
                }
                "crate" | "super" | "self" if self.starts_path(at) => {
                    at = self.tree(at, module.clone());
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        self.edges
    }

    fn starts_path(&self, at: usize) -> bool {
        let before = if at == 0 { "" } else { self.file.text(at - 1) };
        let whole_crate = before == "use" && self.file.text(at) == "crate";
        before != "::" && (self.file.text(at + 1) == "::" || whole_crate)
    }

    /// Follows one path, or each of a group's, from what is named so far; returns where it ends.
    fn tree(&mut self, mut at: usize, mut named: Vec<String>) -> usize {
        let line = self.file.tokens[at].line;
        loop {
            match self.file.text(at) {
                "crate" => named.clear(),
                "super" => drop(named.pop()),
                "self" => {}
                "{" => return self.group(at + 1, &named),
                name => named.push(name.to_string()),
            }
            at += 1;
            if self.file.text(at) != "::" || self.file.text(at + 1) == "<" {
                break;
            }
            at += 1;
        }
        let target = named.first().map_or("self", String::as_str);
        self.edges.push((target.to_string(), line));
        at
    }

    fn group(&mut self, mut at: usize, named: &[String]) -> usize {
        loop {
            match self.file.text(at) {
                "" => return at,
                "}" => return at + 1,
                "," => at += 1,
                // A new name is no path.
                "as" => at += 2,
                _ => at = self.tree(at, named.to_vec()),
            }
        }
    }
}

fn check_unsafe(file: &File, found: &mut Findings) {
    let in_sys = file.is_in(&["src/sys/"]);
    for (at, token) in file.tokens.iter().enumerate() {
        match token.text.as_str() {
            "unsafe" if !in_sys => found.add(file, token.line, "`unsafe` outside src/sys/".into()),
            "unsafe_code" if !in_sys && !is_denied(file, at) => {
                found.add(file, token.line, "`unsafe_code` allowed outside src/sys/".into());
            }
            "unsafe"
                if ["{", "impl"].contains(&file.text(at + 1)) && !has_safety(file, token.line) =>
            {
                found.add(file, token.line, "`unsafe` without a SAFETY comment above it".into());
            }
            _ => {}
        }
    }
}

/// Whether a lint's name stands in a `deny(…)` or `forbid(…)`.
fn is_denied(file: &File, at: usize) -> bool {
    let open = (0..at).rev().find(|&at| file.text(at) == "(");
    let level = open.map_or("", |open| file.text(open.saturating_sub(1)));
    level == "deny" || level == "forbid"
}

/// Whether the statement that holds this line has a SAFETY comment right above it.
fn has_safety(file: &File, line: usize) -> bool {
    let above = file.lines[..line - 1].iter().rev().map(|line| line.trim());
    // The statement may have begun some lines ago; attributes belong to it.
    let ends_before = |line: &&str| !line.starts_with("#[") && line.ends_with([';', '{', '}']);
    let mut above =
        above.skip_while(|line| !line.starts_with("//") && !ends_before(line) && !line.is_empty());
    above.by_ref().take_while(|line| line.starts_with("//")).any(|line| line.contains("SAFETY:"))
}

fn check_doors(file: &File, found: &mut Findings) {
    for token in &file.tokens {
        for (dependency, doors) in DOORS {
            if token.text == dependency && !file.is_in(doors) {
                found.add(
                    file,
                    token.line,
                    format!("`{dependency}` outside of its door {doors:?}"),
                );
            }
        }
    }
}

fn check_banned(file: &File, found: &mut Findings) {
    for token in &file.tokens {
        for (name, why) in BANNED {
            if token.text == name {
                found.add(file, token.line, format!("`{name}` is banned: {why}"));
            }
        }
    }
}

fn check_length(file: &File, found: &mut Findings) {
    let lines = file.lines.len();
    if lines > MOST_LINES {
        found.add(file, lines, format!("{lines} lines; at most {MOST_LINES}"));
    }
}

fn check_cfg(files: &[File], found: &mut Findings) {
    let mut target_lines = 0;
    for file in files {
        for (at, token) in file.tokens.iter().enumerate() {
            let is_macro = token.text == "cfg" && file.text(at + 1) == "!";
            let is_attribute = ["cfg", "cfg_attr"].contains(&token.text.as_str())
                && at > 0
                && file.text(at - 1) == "["
                && file.text(at + 1) == "(";
            if !is_macro && !is_attribute {
                continue;
            }
            for word in condition(file, at) {
                let known = CFG_WORDS.contains(&word) || is_macro && word == "debug_assertions";
                let target = word == "target_os" && file.path == "src/lib.rs";
                target_lines += usize::from(target);
                if !(known || target && target_lines == 1) {
                    found.add(file, token.line, format!("`cfg` of `{word}`"));
                }
            }
        }
    }
}

/// The words of a `cfg`'s condition, up to its closing bracket, or to the first comma of a
/// `cfg_attr`.
fn condition<'a>(file: &'a File, cfg: usize) -> Vec<&'a str> {
    let mut depth = 0;
    let mut words = Vec::new();
    for token in &file.tokens[cfg + 1..] {
        match token.text.as_str() {
            "(" => depth += 1,
            ")" if depth == 1 => break,
            ")" => depth -= 1,
            "," if depth == 1 && file.text(cfg) == "cfg_attr" => break,
            text if text.starts_with(is_name) => words.push(text),
            _ => {}
        }
    }
    words
}
