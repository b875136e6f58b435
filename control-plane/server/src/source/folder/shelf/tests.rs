use super::*;
use crate::source::folder::documents;
use std::time::Duration;

const A: &str = "/kilocard/v1/policies/RoutingPolicy/a";
const B: &str = "/kilocard/v1/policies/RoutingPolicy/b";

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

fn file(path: &str, second: u64, text: &str) -> (String, Held) {
    let held = Held {
        modified: at(second),
        records: documents::records(path, text),
    };
    (path.to_owned(), held)
}

fn policy(name: &str, salt: &str) -> String {
    format!("kind: RoutingPolicy\nmetadata: {{name: {name}}}\nsalt: {salt}\n")
}

fn list(shelf: &mut Shelf, files: &[(String, Held)]) -> Listing {
    shelf.list(files.iter().map(|(path, held)| (path.as_str(), held)), at(1_000_000))
}

fn revision(listing: &Listing, key: &str) -> i64 {
    listing.entries[key.as_bytes()].modified
}

#[test]
fn a_revision_is_when_the_file_was_written_and_rises_in_that_order() {
    let mut shelf = Shelf::new(Layout::default());
    let files = [
        file("policies/1.yaml", 20, &policy("a", "x")),
        file("policies/2.yaml", 10, &policy("b", "x")),
    ];
    let listing = list(&mut shelf, &files);
    assert_eq!((revision(&listing, B), revision(&listing, A)), (10_000, 20_000));
    assert_eq!(listing.revision, 20_000);
    assert_eq!(list(&mut shelf, &files).entries, listing.entries, "nothing changed");
    // A file that was moved here may be older than what stands.
    let files = [files[0].clone(), file("policies/2.yaml", 5, &policy("b", "y"))];
    let listing = list(&mut shelf, &files);
    assert_eq!((revision(&listing, B), revision(&listing, A)), (20_001, 20_000));
}

#[test]
fn what_changes_within_one_file_is_one_change_and_the_rest_of_it_keeps_its_revision() {
    let mut shelf = Shelf::new(Layout::default());
    let both = |a: &str, b: &str| format!("{}---\n{}", policy("a", a), policy("b", b));
    list(&mut shelf, &[file("policies/x.yaml", 1, &both("1", "1"))]);
    let listing = list(&mut shelf, &[file("policies/x.yaml", 2, &both("1", "2"))]);
    assert_eq!((revision(&listing, A), revision(&listing, B)), (1000, 2000));
    let listing = list(&mut shelf, &[file("policies/x.yaml", 3, &both("3", "3"))]);
    assert_eq!((revision(&listing, A), revision(&listing, B)), (3000, 3000));
}

#[test]
fn a_deletion_raises_the_revision_too() {
    let mut shelf = Shelf::new(Layout::default());
    list(&mut shelf, &[file("policies/1.yaml", 1, &policy("a", "x"))]);
    let listing = list(&mut shelf, &[]);
    assert_eq!((listing.revision, listing.entries.len()), (1001, 0));
}

#[test]
fn a_file_that_cannot_be_read_leaves_what_it_held() {
    let mut shelf = Shelf::new(Layout::default());
    let good = [
        file("policies/1.yaml", 1, &policy("a", "x")),
        file("policies/2.yaml", 1, &policy("b", "x")),
    ];
    let before = list(&mut shelf, &good);
    let broken = [file("policies/1.yaml", 2, "kind: ["), good[1].clone()];
    let listing = list(&mut shelf, &broken);
    assert_eq!(listing.entries, before.entries);
    assert!(listing.remarks.refused["policies/1.yaml"].contains("is not YAML"));
    let unreadable: Vec<String> = listing.remarks.unreadable.keys().map(ToString::to_string).collect();
    assert_eq!(unreadable, ["RoutingPolicy/a"]);
    // The other file can be deleted meanwhile.
    let listing = list(&mut shelf, &broken[..1]);
    assert_eq!(listing.entries.len(), 1);
    assert_eq!(list(&mut shelf, &[]).entries.len(), 0, "and so can the broken one");
}

#[test]
fn after_a_restart_what_an_unreadable_file_may_have_held_stays_and_revisions_go_on() {
    let mut before = Shelf::new(Layout::default());
    let worker = file("workers/w.yaml", 1, "{id: w}");
    let listing = list(
        &mut before,
        &[file("policies/1.yaml", 1, &policy("a", "x")), worker.clone()],
    );
    let saved = Saved {
        revision: listing.revision,
        entries: listing.entries.clone(),
        ..Saved::default()
    };
    let mut shelf = Shelf::new(Layout::default());
    shelf.seed(&saved);
    let broken = [file("policies/1.yaml", 2, "kind: ["), file("workers/w.yaml", 2, "{")];
    assert_eq!(list(&mut shelf, &broken).entries, listing.entries);

    let mut shelf = Shelf::new(Layout::default());
    shelf.seed(&saved);
    let touched = file("policies/1.yaml", 9, &policy("a", "x"));
    assert_eq!(
        revision(&list(&mut shelf, &[touched]), A),
        1000,
        "the same text, copied anew"
    );
}

#[test]
fn of_two_files_with_one_policy_the_first_by_name_counts_and_the_other_is_told() {
    let mut shelf = Shelf::new(Layout::default());
    let files = [
        file("policies/1.yaml", 9, &policy("a", "first")),
        file(
            "policies/2.yaml",
            1,
            &format!("{}---\n{}", policy("a", "second"), policy("b", "x")),
        ),
    ];
    let listing = list(&mut shelf, &files);
    assert_eq!(revision(&listing, A), 9000);
    assert_eq!(listing.entries.len(), 2);
    let told = &listing.remarks.refused["policies/2.yaml"];
    assert!(told.contains("stands already in policies/1.yaml"), "{told}");
}

#[test]
fn a_time_in_the_future_does_not_push_revisions_ahead_of_the_clock() {
    let mut shelf = Shelf::new(Layout::default());
    let listing = list(&mut shelf, &[file("policies/1.yaml", 9_000_000, &policy("a", "x"))]);
    assert_eq!(listing.revision, 1_000_000_000);
}
