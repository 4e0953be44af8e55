//! `migrate new`: the next number, a header, and refusals.

use crate::cli::run_plain;

#[test]
fn the_next_migration_gets_its_number_and_a_header() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().display().to_string();
    std::fs::write(folder.path().join("0007_first.sql"), "select 1;").unwrap();
    std::fs::write(folder.path().join("README.md"), "").unwrap();
    let (code, printed, complaints) = run_plain(&["migrate", "new", "add_invoices_due_index", "--dir", &dir]);
    assert_eq!((code, complaints.as_str()), (0, ""));
    let path = folder.path().join("0008_add_invoices_due_index.sql");
    assert_eq!(printed.trim(), path.display().to_string());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("-- add invoices due index: ") && text.lines().all(|line| line.starts_with("--")), "{text}");

    for (name, exit) in [
        ("add_invoices_due_index", 1),
        ("first", 1),
        ("Add", 2),
        ("1st", 2),
        ("a b", 2),
        ("../a", 2),
        ("a__b", 2),
        ("a_", 2),
        ("", 2),
        (&*"a".repeat(61), 2),
    ] {
        let (code, printed, complaints) = run_plain(&["migrate", "new", name, "--dir", &dir]);
        assert_eq!((code, printed.as_str()), (exit, ""), "{name}: {complaints}");
        assert!(!complaints.is_empty());
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_folder_without_migrations_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for dir in [folder.path().to_path_buf(), folder.path().join("missing")] {
        let (code, _, complaints) = run_plain(&["migrate", "new", "a", "--dir", &dir.display().to_string()]);
        assert_eq!(code, 1);
        assert!(complaints.contains(&dir.display().to_string()), "{complaints}");
    }
}
