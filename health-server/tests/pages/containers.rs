//! The files for containers. No test starts a container engine, so this checks what a reader of the files would.

use crate::{read, root};

/// Returns the rest of each line that begins with a word, without white space around.
fn lines_with<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(move |line| line.strip_prefix(start)).map(str::trim)
}

/// Returns whether an image has a tag that says which version it is.
fn has_version(image: &str) -> bool {
    image
        .split_once(':')
        .is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest")
}

#[test]
fn the_image_runs_without_root_and_tells_whether_it_is_ready() {
    let dockerfile = read("Dockerfile");
    for image in lines_with(&dockerfile, "FROM ") {
        assert!(has_version(image.split(' ').next().unwrap()), "{image}");
    }
    let user = lines_with(&dockerfile, "USER ").last().expect("a user");
    let (id, _group) = user.split_once(':').expect("a user and a group");
    assert!(id.parse::<u32>().is_ok_and(|id| id >= 1000), "{user}");
    let health = lines_with(&dockerfile, "HEALTHCHECK ").next().expect("a health check");
    assert!(
        health.ends_with(r#"CMD ["health-server", "check", "--ready"]"#),
        "{health}"
    );
    let ignored = read(".dockerignore");
    for name in ["target", ".git", "secrets"] {
        assert!(
            ignored.lines().any(|line| line == name),
            "the image would contain {name}"
        );
    }
}

#[test]
fn compose_mounts_files_that_exist_and_opens_ports_to_this_machine_only() {
    let compose = read("compose.yaml");
    for image in lines_with(&compose, "image:") {
        assert!(has_version(image), "{image}");
    }
    let mut mounts = 0;
    for mount in lines_with(&compose, "- ./") {
        let file = mount.split(':').next().unwrap();
        assert!(root().join(file).exists(), "{file} is mounted, but does not exist");
        assert!(mount.ends_with(":ro"), "{mount} can be written");
        mounts += 1;
    }
    assert!(mounts > 4, "found {mounts} mounts");
    for ports in lines_with(&compose, "ports:") {
        for port in ports.trim_matches(['[', ']']).split(", ") {
            assert!(port.starts_with("\"127.0.0.1:"), "{port}");
        }
    }
}

#[test]
fn each_secret_of_compose_is_a_file_that_its_comment_explains() {
    let compose = read("compose.yaml");
    let comment: String = lines_with(&compose, "#   ")
        .map(|line| line.to_owned() + "\n")
        .collect();
    let mut secrets = 0;
    for file in compose.split("file: ./").skip(1) {
        let file = file.split(' ').next().unwrap();
        assert!(comment.contains(&format!("{file} ")), "{file} is not explained");
        secrets += 1;
    }
    assert!(secrets > 3, "found {secrets} secrets");
    let settings = compose.lines().filter(|line| !line.starts_with('#'));
    for line in settings.filter(|line| line.contains("PASSWORD")) {
        assert!(
            line.contains("_FILE: /run/secrets/"),
            "a password stands in the file: {line}"
        );
    }
}
