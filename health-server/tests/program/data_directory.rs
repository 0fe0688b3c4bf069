//! The data directory of the server's own PostgreSQL, as an operator may find it.

use std::fs;

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

#[tokio::test]
async fn an_address_that_is_refused_is_the_only_thing_that_the_log_complains_of() {
    let directory = test_directory();
    let path = directory.path().join("data");
    let data_dir = ["--data-dir", path.to_str().unwrap()];
    assert!(
        run_to_end(&[&["token", "list"][..], &data_dir].concat())
            .await
            .status
            .success()
    );
    let address = ["--http", "0.0.0.0:0", "--feed", "127.0.0.1:0"];
    let output = run_to_end(&[&address[..], &data_dir].concat()).await;
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("other machines can reach --http 0.0.0.0:0"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn a_path_through_a_file_is_refused_and_nothing_is_to_be_opened() {
    let directory = test_directory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("data"), file.join("a/b")] {
        let output = run_to_end(&["token", "list", "--data-dir", path.to_str().unwrap()]).await;
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains("cannot be the data directory"), "{message}");
        assert!(!message.contains("chmod"), "{message}");
    }
}

#[tokio::test]
async fn an_address_without_a_port_gets_an_example() {
    for address in ["127.0.0.1", "", "127.0.0.1:99999", "[::1]"] {
        for flag in ["--http", "--feed"] {
            let mut arguments = vec!["--http", "127.0.0.1:0", "--database-url", "postgres://127.0.0.1:1/db"];
            arguments.retain(|argument| flag != "--http" || !["--http", "127.0.0.1:0"].contains(argument));
            arguments.extend([flag, address]);
            let output = run_to_end(&arguments).await;
            let message = String::from_utf8(output.stderr).unwrap();
            let (status, example) = if address.is_empty() {
                let parts = format!("'{flag} <ADDR>': write a host and a port, such as 127.0.0.1:8000");
                (2, parts)
            } else {
                let port = if flag == "--feed" { 8001 } else { 8000 };
                (
                    1,
                    format!("Write a host and a port to {flag}, such as 127.0.0.1:{port}"),
                )
            };
            assert_eq!(output.status.code(), Some(status), "{message}");
            assert!(message.contains(&example), "{message}");
        }
    }
}
