//! The pages of the repository say what the code says: flags and constants of `docs/limits.md`, and the files and tests
//! that the pages name.

#![cfg(test)]

mod blocks;
mod commands;
mod comments;
mod containers;
mod fixtures;
mod sections;
mod units;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The pages whose files and tests must exist.
const PAGES: [&str; 11] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/import.md",
    "docs/limits.md",
    "docs/operate.md",
    "docs/performance.md",
    "docs/phones.md",
    "docs/reliability.md",
    "docs/scale.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// Returns the cells of the rows of all tables of a page.
fn table_rows(page: &str) -> Vec<Vec<String>> {
    let row = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    page.lines().filter(|line| line.starts_with('|')).map(row).collect()
}

/// Returns the texts between backticks, without those of code blocks.
fn quoted(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    let prose = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns the text between two others.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

#[test]
fn the_limits_page_lists_every_flag_with_its_variable_and_its_default() {
    let output = Command::new(env!("CARGO_BIN_EXE_health-server"))
        .arg("--help")
        .env_clear()
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout)
        .unwrap()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let rows = table_rows(&read("docs/limits.md"));
    let mut flags = 0;
    for option in help.split(" --").skip(1) {
        let Some(variable) = between(option, "[env: ", "]") else {
            continue; // `--help` and `--version`.
        };
        let flag = option.split(' ').next().unwrap_or_default();
        let default = between(option, "[default: ", "]").unwrap_or_default();
        let row = rows.iter().find(|row| row[1] == format!("`--{flag}`"));
        let row = row.unwrap_or_else(|| panic!("docs/limits.md has no row for --{flag}"));
        assert_eq!(
            row[2],
            format!("`{}`", variable.trim_end_matches('=')),
            "the variable of --{flag}"
        );
        assert_eq!(row[3], default, "the default of --{flag}");
        flags += 1;
    }
    let listed = rows.iter().filter(|row| row[1].starts_with("`--")).count();
    assert_eq!(
        flags, listed,
        "docs/limits.md lists a flag that --help does not: {help}"
    );
}

#[test]
fn every_constant_of_the_limits_page_exists() {
    let mut constants = 0;
    for row in table_rows(&read("docs/limits.md")) {
        let Some(file) = row
            .get(4)
            .filter(|cell| Path::new(cell).extension() == Some(OsStr::new("rs")))
        else {
            continue;
        };
        let source = read(file);
        for constant in quoted(&row[1]) {
            let name = constant.rsplit("::").next().unwrap_or_default();
            assert!(
                source.contains(&format!("const {name}: ")),
                "{file} has no constant {name}"
            );
            constants += 1;
        }
    }
    assert!(constants > 50, "found only {constants} constants");
}

#[test]
fn files_and_tests_that_the_pages_name_exist() {
    let files: BTreeSet<String> = source_files(&root());
    for page in PAGES {
        let mut file = None;
        for text in quoted(&read(page)) {
            if is_source_file(&text) {
                let suffix = format!("/{text}");
                file = files
                    .iter()
                    .find(|path| **path == text)
                    .or_else(|| files.iter().find(|path| path.ends_with(&suffix)));
                assert!(file.is_some(), "{page} names the file {text}, which does not exist");
            } else if let Some(file) = file.filter(|_| is_test_name(&text)) {
                assert!(
                    read(file).contains(&format!("fn {text}(")),
                    "{page}: {file} has no test {text}"
                );
            }
        }
    }
}

fn is_source_file(text: &str) -> bool {
    let is_path = text
        .chars()
        .all(|char| char.is_ascii_alphanumeric() || "/._-".contains(char));
    is_path
        && [".rs", ".sql", ".md"]
            .iter()
            .any(|end| text.len() > end.len() && text.ends_with(end))
}

/// Names of tests are sentences; other names in the pages are shorter, or those of metrics, which all begin alike.
fn is_test_name(text: &str) -> bool {
    text.matches('_').count() >= 4
        && !text.starts_with("health_")
        && text
            .chars()
            .all(|char| char == '_' || char.is_ascii_lowercase() || char.is_ascii_digit())
}

/// Returns the paths of all files that are not generated, relative to `directory`.
fn source_files(directory: &Path) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default();
            if path.is_symlink() || name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(relative) = path.strip_prefix(directory) {
                files.insert(relative.to_string_lossy().into_owned());
            }
        }
    }
    files
}
