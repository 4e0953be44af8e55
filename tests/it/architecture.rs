//! The rules of the house that a compiler does not know: who may import whom, who may read the environment, how files are
//! named and how long they are. Every rule is read off the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const MAX_LINES: usize = 500;

/// Which of our modules each module may name, beside itself. `cli` may name all.
const IMPORTS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("metrics", &["domain"]),
    ("config", &["domain", "telemetry"]),
    ("telemetry", &[]),
    ("embedded_postgres", &["config"]),
    ("store", &["clock", "config", "domain"]),
    ("ingest", &["clock", "domain", "metrics", "store"]),
    ("clerk_api", &["clock", "config", "domain"]),
    ("ensure", &["clerk_api", "domain", "ingest", "store"]),
    ("stripe_api", &["clock", "config", "domain", "metrics"]),
    ("reconcile", &["clerk_api", "clock", "domain", "ingest", "metrics", "store", "stripe_api"]),
    ("schedule", &["clock", "domain", "ingest", "metrics", "reconcile", "store"]),
    ("http", &["clock", "domain", "ingest", "metrics", "store", "telemetry"]),
];

/// Crates that one module alone may name.
const OWNED_CRATES: &[(&str, &str)] =
    &[("sqlx", "store"), ("actix_web", "http"), ("clap", "cli"), ("indicatif", "cli"), ("stripe_client_core", "stripe_api")];

/// What the pure core may not name.
const IMPURE: &[&str] = &["tokio", "sqlx", "actix_web", "reqwest", "std::fs", "std::env", "std::net", "std::process", "Utc::now"];

const BANNED_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "data", "info", "misc", "process"];

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Dockerfile",
    "src",
    "migrations",
    "fixtures",
    "tests",
    "benches",
];

/// What a build or a checkout leaves beside the sources.
const NOT_OURS: &[&str] = &["target"];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The first folder or file below `src`, without its ending.
    fn module(&self) -> String {
        let inner = self.path.strip_prefix(root().join("src")).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    }

    fn shown(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    /// Lines with their numbers, without comments. Tests within the file count too: they obey the same rules.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root().join(folder), &mut paths);
    let rust = paths.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    rust.map(|path| Source { text: std::fs::read_to_string(&path).unwrap(), path }).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, paths) } else { paths.push(path) }
    }
}

/// The path segments that follow `prefix` in a line, at word boundaries: `crate::store::Store` gives `store`.
fn names_after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let at_boundary = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &line[at + prefix.len()..];
        let groups = rest.strip_prefix('{').map_or_else(|| vec![rest], |inner| inner.split(',').collect());
        for group in groups.into_iter().filter(|_| at_boundary) {
            let group = group.trim_start();
            let end = group.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(group.len());
            names.push(&group[..end]);
        }
    }
    names
}

#[test]
fn modules_name_only_what_the_architecture_lets_them() {
    let mut wrong = Vec::new();
    let known: BTreeSet<&str> = IMPORTS.iter().map(|(module, _)| *module).chain(["cli", "main", "lib"]).collect();
    for source in sources("src") {
        let module = source.module();
        assert!(known.contains(module.as_str()), "{} is in no module of the table in this file", source.shown());
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else { continue };
        for (number, line) in source.code() {
            for name in names_after(line, "crate::").into_iter().chain(names_after(line, "billsync::")) {
                if name != module && known.contains(name) && !allowed.contains(&name) {
                    wrong.push(format!("{}:{number}: {module} may not name {name}", source.shown()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_crates_belong_to_one_module() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        let module = source.module();
        for (number, line) in source.code() {
            for (krate, owner) in OWNED_CRATES {
                if module != *owner && names_path(line, krate) {
                    wrong.push(format!("{}:{number}: {krate} belongs to {owner}", source.shown()));
                }
            }
            for name in IMPURE.iter().filter(|name| module == "domain" && names_path(line, name)) {
                wrong.push(format!("{}:{number}: the core is pure: no {name}", source.shown()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the line names `path` as the beginning of a path, `path::…`, or as a whole word for a path of its own.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        let rest = &line[at + path.len()..];
        before && (rest.starts_with("::") || path.contains("::") && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[test]
fn config_is_the_only_reader_of_the_environment() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().filter(|source| source.module() != "config") {
        for (number, line) in source.code() {
            let reads = ["env::var", "env::remove_var", "env::set_var", "option_env!"].iter().any(|name| line.contains(name));
            // `#[arg(env)]` would have clap read it.
            if reads || line.contains("#[arg(") && line.contains(" env") {
                wrong.push(format!("{}:{number}", source.shown()));
            }
        }
    }
    assert!(wrong.is_empty(), "the environment is read outside of config.rs:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{} has {lines} lines, more than {MAX_LINES}", source.shown()));
        }
        if !source.text.starts_with("//! ") {
            wrong.push(format!("{} does not open with a line of //! that says what it is", source.shown()));
        }
        let preamble = source.text.lines().take_while(|line| line.starts_with("//!")).count();
        if preamble > 8 && source.path != root().join("src/lib.rs") {
            wrong.push(format!("{} opens with {preamble} lines of //!", source.shown()));
        }
        for (number, _) in source.code().filter(|(_, line)| line.contains(concat!("[allow", "("))) {
            wrong.push(format!("{}:{number}: #[expect(…, reason = …)] instead of #[allow]", source.shown()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_say_what_a_file_is() {
    let mut wrong = Vec::new();
    for source in sources("src").into_iter().chain(sources("tests")).chain(sources("benches")) {
        let stem = source.path.file_stem().unwrap().to_string_lossy().into_owned();
        if BANNED_NAMES.contains(&stem.as_str()) || stem == "mod" {
            wrong.push(source.shown());
        }
    }
    assert!(wrong.is_empty(), "names that say nothing:\n{}", wrong.join("\n"));
}

#[test]
fn the_top_level_holds_what_the_readme_tells() {
    let entries = std::fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let strangers: Vec<String> = names
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) && !NOT_OURS.contains(&name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "unexpected at the top level: {strangers:?}");
}

#[test]
fn the_rules_here_can_be_broken() {
    assert_eq!(names_after("use crate::store::Store;", "crate::"), ["store"]);
    assert_eq!(names_after("use crate::{store::Store, http};", "crate::"), ["store", "http"]);
    assert_eq!(names_after("mycrate::store", "crate::"), Vec::<&str>::new());
    assert!(names_path("use sqlx::Row;", "sqlx") && names_path("let x = Utc::now();", "Utc::now"));
    assert!(!names_path("crate::sqlx::x", "sqlx") && !names_path("the sqlx crate", "sqlx"));
}
