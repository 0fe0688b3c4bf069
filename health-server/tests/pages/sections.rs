//! The sections of the pages, the links to them, and the options that they list.

use std::{collections::BTreeSet, path::Path, process::Command};

use crate::{PAGES, between, read, root, table_rows};

/// Returns the headings of a page in the form of links: `the-server` for `## The server`.
fn sections(page: &str) -> Vec<String> {
    let prose: String = page.split("```").step_by(2).collect();
    let headings = prose.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let title = heading.trim_start_matches('#').trim();
            let kept = title
                .chars()
                .filter(|char| char.is_alphanumeric() || " -_".contains(*char));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// Returns the targets of the links of a page, without those to other hosts.
fn links(page: &str) -> Vec<&str> {
    let prose = page.split("](").skip(1);
    let targets = prose.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://")).collect()
}

#[test]
fn no_page_has_two_sections_of_one_name() {
    for page in PAGES {
        let mut seen = BTreeSet::new();
        for section in sections(&read(page)) {
            assert!(seen.insert(section.clone()), "{page} has the section {section} twice");
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_section_that_exist() {
    let mut to_sections = 0;
    for page in PAGES {
        let text = read(page);
        for link in links(&text) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(page).parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() {
                page.into()
            } else {
                folder.join(file)
            };
            assert!(
                root().join(&target).exists(),
                "{page} links to {link}, and there is no such file"
            );
            if !section.is_empty() {
                let found = sections(&read(&target.to_string_lossy()));
                assert!(
                    found.iter().any(|name| name == section),
                    "{page} links to {link}, and there is no such section"
                );
                to_sections += 1;
            }
        }
    }
    assert!(to_sections > 50, "found only {to_sections} links to sections");
}

#[test]
fn the_import_page_lists_every_option_of_import() {
    let help = Command::new(env!("CARGO_BIN_EXE_health-server"))
        .args(["import", "--help"])
        .env_clear()
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options = between(&help, "Options:", "--config").unwrap();
    let rows = table_rows(&read("docs/import.md"));
    let listed: Vec<&str> = rows.iter().filter_map(|row| row.get(1)).map(String::as_str).collect();
    let mut found = 0;
    for line in options.lines().filter_map(|line| line.trim_start().strip_prefix("--")) {
        let option = line.split(' ').next().unwrap_or_default();
        assert!(
            listed.iter().any(|cell| cell.contains(&format!("`--{option}"))),
            "docs/import.md has no row for --{option}"
        );
        found += 1;
    }
    assert!(found >= 8, "found only {found} options in {help}");
}
