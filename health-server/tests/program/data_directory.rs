//! The data directory of the server's own PostgreSQL, as an operator may find it.

use test_support::test_directory;

use super::run_to_end;

#[tokio::test]
async fn a_new_database_in_an_empty_data_directory_is_told_once() {
    let directory = test_directory();
    let path = directory.path().join("data");
    for is_new in [true, false] {
        let output = run_to_end(&["token", "list", "--data-dir", path.to_str().unwrap()]).await;
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), usize::from(is_new), "{log}");
        for line in warnings {
            let told = format!(
                "the data directory {} had no database, so a new one was created",
                path.display()
            );
            assert!(line.contains(&told), "{line}");
        }
    }
}
