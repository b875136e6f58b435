//! The documentation of the repository holds together.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn every_relative_link_leads_to_a_file() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the root")?;
    let mut dead = Vec::new();
    let mut alive = 0;
    for page in pages(root)? {
        let path = root.join(&page);
        // Listed by git, and deleted since.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for target in targets(&text) {
            if path.parent().is_some_and(|folder| folder.join(target).exists()) {
                alive += 1;
            } else {
                dead.push(format!("{page}: {target}"));
            }
        }
    }
    ensure!(dead.is_empty(), "links that lead nowhere:\n  {}", dead.join("\n  "));
    ensure!(alive >= 10, "only {alive} links were found: the test does not see them");
    Ok(())
}

#[test]
fn links_are_found_and_code_and_addresses_are_not() {
    let text = "[a](docs/a.md), [b](b.md#part \"title\") `[c](c.md)` [d](https://d.example/d.md) [e](#e)\n\
        ```\n[f](f.md)\n```\n[g]: ../g.md\n";
    assert_eq!(targets(text), ["docs/a.md", "b.md", "../g.md"]);
}

/// The Markdown files that git tracks.
fn pages(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "*.md"])
        .current_dir(root);
    let output = git.output().context("run git")?;
    ensure!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listed = String::from_utf8(output.stdout)?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

/// The files that a page links to, as written: `[text](target)` and `[name]: target`, outside code.
fn targets(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
            targets.push(target);
        }
        // What stands between back-ticks is every second part.
        for prose in line.split('`').step_by(2) {
            let after = prose.split("](").skip(1);
            targets.extend(after.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target));
        }
    }
    targets
        .into_iter()
        .filter_map(|target| target.split([' ', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .collect()
}
