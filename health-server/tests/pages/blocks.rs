//! The blocks of code of a page, and what a test does with each.

/// A block of code.
#[derive(Debug)]
pub(crate) struct Block {
    /// The word after the fence, such as `sh`.
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) use_in_test: UseInTest,
}

/// What a test does with a shell block. A comment above the block, which readers of the page do not see, says it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UseInTest {
    /// Without a mark: the test runs it.
    Runs,
    /// `<!-- in the background until "TEXT" -->`: it does not end by itself; the next block follows when it has printed
    /// this.
    InBackground { until: String },
    /// `<!-- run by script/test-package -->`: it needs root and an installed package.
    InPackage,
    /// `<!-- only without the package -->`: the other test leaves it out.
    WithoutPackage,
    /// `<!-- not run: REASON -->`
    NotRun,
}

impl UseInTest {
    /// # Panics
    ///
    /// If the comment is none of the marks.
    fn parse(comment: &str) -> Self {
        match comment {
            "run by script/test-package" => return Self::InPackage,
            "only without the package" => return Self::WithoutPackage,
            _ => {}
        }
        if let Some(reason) = comment.strip_prefix("not run: ") {
            assert!(reason.len() > 10, "no reason: {comment}");
            return Self::NotRun;
        }
        let until = comment.strip_prefix("in the background until \"");
        let until = until.and_then(|rest| rest.strip_suffix('"'));
        let until = until
            .unwrap_or_else(|| panic!("no mark for a block: {comment}"))
            .to_owned();
        Self::InBackground { until }
    }
}

/// Returns the blocks of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    let mut above = "";
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let body = lines.by_ref().take_while(|line| *line != "```");
            let text = body.map(|line| line.to_owned() + "\n").collect();
            let comment = above.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            blocks.push(Block {
                language: language.to_owned(),
                text,
                use_in_test: comment.map_or(UseInTest::Runs, UseInTest::parse),
            });
        }
        above = line;
    }
    blocks
}

#[test]
fn a_mark_is_the_comment_above_its_block() {
    let page = "a\n```sh\none\ntwo\n```\n<!-- not run: it needs a moon -->\n```sh\nthree\n```\n\n<!-- other -->\n\n\
                <!-- in the background until \"a \"b\"\" -->\n```sh\n```\n<!-- run by script/test-package -->\n```text\nx\n```\n";
    let blocks = blocks(page);
    let texts: Vec<_> = blocks.iter().map(|block| block.text.as_str()).collect();
    assert_eq!(texts, ["one\ntwo\n", "three\n", "", "x\n"]);
    let uses: Vec<_> = blocks.into_iter().map(|block| block.use_in_test).collect();
    let until = "a \"b\"".to_owned();
    assert_eq!(
        uses,
        [
            UseInTest::Runs,
            UseInTest::NotRun,
            UseInTest::InBackground { until },
            UseInTest::InPackage
        ]
    );
}
