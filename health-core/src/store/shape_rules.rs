//! The rules for statements that run if the tables are distributed, see [`tables`](crate::store::tables).
//!
//! Each rule stands for statements that Citus 13 refuses, or answers wrongly without an error. The rules look at the
//! words of a statement, so they are stricter than Citus in places.

use std::fmt;

use crate::store::{
    look_up::NEWEST_OF_SHARD,
    tables::{DISTRIBUTED_TABLES, LOCAL_TABLES, Tables},
};

/// The statement that may have everything that runs within one shard, if the users are named.
const OF_SHARD: [&str; 1] = [NEWEST_OF_SHARD];

/// The system columns, and the type of `ctid`.
const SYSTEM_COLUMNS: [&str; 7] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "tid"];

/// Volatile functions that a statement of this program might use. A test compares them with PostgreSQL's catalog.
pub(super) const VOLATILE_FUNCTIONS: [&str; 8] = [
    "clock_timestamp",
    "currval",
    "gen_random_uuid",
    "nextval",
    "pg_is_in_recovery",
    "pg_total_relation_size",
    "random",
    "setval",
];

/// The same of Citus, which no statement with a change may use.
pub(super) const VOLATILE_FUNCTIONS_OF_CITUS: [&str; 2] =
    ["get_shard_id_for_distribution_column", "run_command_on_all_nodes"];

/// What Citus refuses or gets wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// A system column has another meaning in each shard: `ctid` repeats, `xmin` is a number of the worker.
    SystemColumn,
    /// Refused: "recursive CTEs are only supported when they contain a filter on the distribution column".
    Recursion,
    /// Refused: "a column definition list is required for functions returning record".
    SelectWithoutColumn,
    /// Refused: "functions used in UPDATE queries on distributed tables must not be VOLATILE". `DEFAULT` may be one.
    Volatile,
    /// Slow: the statement goes to every shard.
    UsersNotNamed,
    /// Wrong: rows of several shards come in any order, so an inner order, or a limit without an order, decides
    /// nothing.
    OrderLost,
    /// Refused: "Limit clause is currently unsupported when a lateral subquery references a column from a table
    /// function", and the same for aggregates.
    LateralLimit,
    /// Refused: "complex joins are only supported when all distributed tables are co-located".
    LocalTableJoined,
    /// Refused: "could not create distributed plan", because shards are found from the values of parameters.
    GenericPlan,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Panics if a session whose tables are distributed prepares a statement that breaks a rule. So every test with such a
/// session also shows that no statement for local tables is used.
pub(super) fn assert_allowed(tables: Tables, sql: &str) {
    if tables == Tables::Distributed && !OF_SHARD.contains(&sql) {
        // Some statements are for all users. The test of all constants lists them.
        let mut broken = broken(sql);
        broken.retain(|rule| *rule != Rule::UsersNotNamed);
        assert!(broken.is_empty(), "{broken:?}: {sql}");
    }
}

/// Returns the rules that a statement breaks.
pub(super) fn broken(sql: &str) -> Vec<Rule> {
    let statement = Statement::new(sql);
    let checks = [
        (Rule::SystemColumn, statement.has_any(&SYSTEM_COLUMNS)),
        (Rule::Recursion, statement.has_any(&["recursive"])),
        (Rule::SelectWithoutColumn, statement.has_sequence(&["select", "from"])),
        (Rule::Volatile, statement.is_volatile_change()),
        (Rule::UsersNotNamed, statement.named() < statement.reads()),
        (Rule::OrderLost, statement.loses_order()),
        (Rule::LateralLimit, statement.has_lateral_limit()),
        (Rule::LocalTableJoined, statement.joins_local_table()),
    ];
    let mut broken = Vec::new();
    if statement.has_any(&["force_generic_plan"]) {
        broken.push(Rule::GenericPlan);
    }
    if statement.has_any(&DISTRIBUTED_TABLES) {
        broken.extend(
            checks
                .into_iter()
                .filter(|(_, is_broken)| *is_broken)
                .map(|(rule, _)| rule),
        );
    }
    broken
}

/// Returns the functions that a statement calls, and other names before a parenthesis.
pub(super) fn called(sql: &str) -> Vec<String> {
    let words = Statement::new(sql).words;
    let is_called = words.windows(2).filter(|pair| pair[1].text == "(");
    is_called.map(|pair| pair[0].text.clone()).collect()
}

/// The words of a statement.
struct Statement {
    words: Vec<Word>,
}

/// A name, a keyword, a parameter, a number, a string or a single sign, in lower case.
#[derive(Debug)]
struct Word {
    text: String,
    /// The number of open parentheses around it. A parenthesis itself belongs to the outside.
    depth: usize,
}

impl Statement {
    fn new(sql: &str) -> Self {
        let mut words: Vec<Word> = Vec::new();
        let mut depth = 0;
        let mut rest = sql.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let length = if first == '\'' {
                rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
            } else if is_name(first) {
                rest.find(|c| !is_name(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            let (text, after) = rest.split_at(length);
            depth -= usize::from(text == ")");
            words.push(Word {
                text: text.to_lowercase(),
                depth,
            });
            depth += usize::from(text == "(");
            rest = after.trim_start();
        }
        Self { words }
    }

    fn text(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }

    fn has_any(&self, texts: &[&str]) -> bool {
        self.words.iter().any(|word| texts.contains(&word.text.as_str()))
    }

    fn has_sequence(&self, sequence: &[&str]) -> bool {
        self.positions(sequence).next().is_some()
    }

    /// Returns where a sequence of words begins.
    fn positions(&self, sequence: &[&str]) -> impl Iterator<Item = usize> {
        (0..self.words.len()).filter(move |at| {
            (0..)
                .zip(sequence)
                .all(|(offset, text)| self.text(at + offset) == *text)
        })
    }

    /// Returns the end of the parentheses that begin at a position.
    fn closing(&self, opening: usize) -> usize {
        let depth = self.words[opening].depth;
        let is_end = |at: &usize| self.words[*at].depth == depth && self.text(*at) == ")";
        (opening..self.words.len()).find(is_end).unwrap_or(self.words.len())
    }

    fn is_volatile_change(&self) -> bool {
        let is_update = self.has_any(&["update"]);
        let volatile = [VOLATILE_FUNCTIONS.as_slice(), &VOLATILE_FUNCTIONS_OF_CITUS].concat();
        let calls = |at: usize| volatile.contains(&self.text(at)) && self.text(at + 1) == "(";
        let is_change = is_update || self.has_any(&["delete", "insert"]);
        is_change && (0..self.words.len()).any(calls) || is_update && self.has_any(&["default"])
    }

    /// Counts how often the statement reads a distributed table. The target of INSERT and COPY is not read.
    fn reads(&self) -> usize {
        let reads = |at: &usize| {
            DISTRIBUTED_TABLES.contains(&self.text(*at))
                && ["from", "join", "update"].contains(&self.text(at.wrapping_sub(1)))
        };
        (0..self.words.len()).filter(reads).count()
    }

    /// Counts the conditions that name one user or a list of users by a parameter.
    fn named(&self) -> usize {
        let one = |at: &usize| self.text(at + 2).starts_with('$');
        let any = |at: &usize| self.text(at + 2) == "any" && self.text(at + 4).starts_with('$');
        let conditions = self.positions(&["user_id", "="]);
        conditions.filter(|at| one(at) || any(at)).count()
    }

    /// Returns whether the statement reads rows of more than one user. All rows of one user are in one shard.
    fn has_several_users(&self) -> bool {
        let of_one = self
            .positions(&["user_id", "="])
            .filter(|at| self.text(at + 2).starts_with('$'));
        of_one.count() < self.reads()
    }

    fn loses_order(&self) -> bool {
        let depths: Vec<_> = self
            .positions(&["order", "by"])
            .map(|at| self.words[at].depth)
            .collect();
        let has_limit = self.words.iter().any(|word| word.depth == 0 && word.text == "limit");
        self.has_several_users() && !depths.contains(&0) && (has_limit || !depths.is_empty())
    }

    fn has_lateral_limit(&self) -> bool {
        let limits = |at: usize| {
            let within = &self.words[at + 1..self.closing(at + 1)];
            let needs_all_rows = |word: &Word| ["limit", "max", "min", "count", "sum"].contains(&word.text.as_str());
            within.iter().any(needs_all_rows)
        };
        self.has_several_users() && self.has_any(&["unnest"]) && self.positions(&["lateral", "("]).any(limits)
    }

    /// Returns whether a local table stands in a list of tables together with a distributed one, or in a subquery of
    /// that list. A subquery that returns one value may read it.
    fn joins_local_table(&self) -> bool {
        let is_joined = |at: &usize| {
            let depth = self.words[*at].depth;
            let opening = (0..*at).rfind(|before| self.words[*before].depth < depth);
            let before = opening.map_or("", |opening| self.text(opening.wrapping_sub(1)));
            let follows_join = self.text(at.wrapping_sub(1)) == "join";
            let same_list = self.words[*at..].iter().take_while(|word| word.depth >= depth);
            let precedes_join = same_list.clone().any(|word| word.depth == depth && word.text == "join");
            follows_join || precedes_join || ["join", "lateral", "from"].contains(&before)
        };
        let local = (0..self.words.len()).filter(|at| LOCAL_TABLES.contains(&self.text(*at)));
        self.has_several_users() && local.filter(is_joined).count() > 0
    }
}
