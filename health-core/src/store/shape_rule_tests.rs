//! Every statement of `store/` keeps the rules for distributed tables.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use test_support::{TestDatabase, is_on_citus};

use crate::{
    config::Config,
    store::{
        connection::Session,
        shape_rules::{Rule, VOLATILE_FUNCTIONS, VOLATILE_FUNCTIONS_OF_CITUS, broken, called},
        tables::{DISTRIBUTED_TABLES, LOCAL_TABLES},
    },
};

/// The statements that go to every shard, because they are not about known users.
const OF_ALL_USERS: [(&str, &str, &str); 5] = [
    ("users.rs", "NEXT_ID", "finds users"),
    ("dirty_slices.rs", "COUNT", "counts the dirty slices of all users"),
    ("dirty_slices.rs", "FIRST", "finds the next dirty slices of any user"),
    ("totals.rs", "TOTALS", "reads every sample, to verify a backup"),
    ("sealing_lag.rs", "LAG", "counts the dirty slices of all users"),
];

/// Statements that look right and that Citus refuses or answers wrongly. Most were shapes of this program once.
const PLANTED: [(Rule, &str); 14] = [
    (
        Rule::SystemColumn,
        "SELECT id, m.xmin FROM health_metrics m WHERE user_id = $1",
    ),
    (
        Rule::SystemColumn,
        "UPDATE health_metrics m SET id = n.id FROM unnest($1::tid[]) AS n (at) WHERE m.user_id = $2 AND ctid = n.at",
    ),
    (
        Rule::Recursion,
        "WITH RECURSIVE w (u) AS (SELECT 1) SELECT u FROM w JOIN health_metrics m ON m.user_id = $1",
    ),
    (
        Rule::SelectWithoutColumn,
        "SELECT EXISTS (SELECT FROM health_dirty WHERE user_id = $1)",
    ),
    (
        Rule::Volatile,
        "UPDATE health_metrics SET id = DEFAULT WHERE user_id = $1",
    ),
    (
        Rule::Volatile,
        "UPDATE health_metrics SET id = nextval('health_batch_numbers') WHERE user_id = $1",
    ),
    (
        Rule::Volatile,
        "DELETE FROM health_rollups WHERE user_id = $1 AND start < clock_timestamp()",
    ),
    (Rule::UsersNotNamed, "DELETE FROM health_dirty WHERE epoch < $1"),
    (
        Rule::UsersNotNamed,
        "SELECT m.steps FROM unnest($1::bigint[]) AS k (user_id) JOIN health_metrics m ON m.user_id = k.user_id",
    ),
    (
        Rule::UsersNotNamed,
        "SELECT 1 FROM health_metrics WHERE user_id = $1 AND timestamp > (SELECT min(slice) FROM health_dirty)",
    ),
    (
        Rule::OrderLost,
        "SELECT m.steps FROM unnest($1::bigint[]) AS k (user_id) CROSS JOIN LATERAL (SELECT steps FROM health_metrics h \
         WHERE h.user_id = ANY($1) AND h.user_id = k.user_id ORDER BY timestamp) AS m",
    ),
    (
        Rule::OrderLost,
        "SELECT user_id, slice FROM health_dirty WHERE user_id = ANY($1) LIMIT 10",
    ),
    (
        Rule::LateralLimit,
        "SELECT k.user_id, m.timestamp FROM unnest($1::bigint[]) AS k (user_id) CROSS JOIN LATERAL (SELECT timestamp \
         FROM health_metrics h WHERE h.user_id = ANY($1) AND h.user_id = k.user_id ORDER BY timestamp LIMIT 1) AS m ORDER BY 1",
    ),
    (
        Rule::LocalTableJoined,
        "SELECT count(*) FROM health_metrics m CROSS JOIN (SELECT sealed_before FROM health_sealing) AS s \
         WHERE user_id = ANY($1) AND timestamp >= s.sealed_before",
    ),
];

/// A constant of a file in `store/` that contains text.
#[derive(Debug)]
struct Constant {
    file: String,
    name: String,
    text: String,
}

#[test]
fn every_statement_keeps_the_rules_for_distributed_tables() {
    let constants = constants();
    assert!(constants.len() > 60, "only {} constants were found", constants.len());
    let mut exceptions = BTreeSet::new();
    for Constant { file, name, text } in &constants {
        let broken = broken(text);
        if name.ends_with("_OF_SHARD") {
            // Within one shard everything runs as on PostgreSQL, if the users are named.
            let of_several_shards = [Rule::LateralLimit, Rule::OrderLost];
            let others: Vec<_> = broken.iter().filter(|rule| !of_several_shards.contains(rule)).collect();
            assert!(others.is_empty(), "{file}: {name} breaks {others:?}");
        } else if name.ends_with("_LOCAL") {
            assert_ne!(broken, [], "{file}: {name} breaks no rule, so it can be the only shape");
        } else if let Some((.., why)) = OF_ALL_USERS.iter().find(|(at, of, _)| (*at, *of) == (file, name)) {
            assert_eq!(broken, [Rule::UsersNotNamed], "{file}: {name}, which {why}");
            exceptions.insert(name);
        } else {
            assert_eq!(broken, [], "{file}: {name}: {text}");
        }
    }
    assert_eq!(
        exceptions.len(),
        OF_ALL_USERS.len(),
        "only these exceptions exist: {exceptions:?}"
    );
}

#[test]
fn a_statement_that_citus_would_refuse_or_answer_wrongly_is_found() {
    for (rule, statement) in PLANTED {
        assert_eq!(broken(statement), [rule], "{statement}");
    }
    assert_eq!(broken("SET plan_cache_mode = force_generic_plan"), [Rule::GenericPlan]);
}

/// A statement that is not a constant would escape the rules.
#[test]
fn every_statement_about_users_is_a_constant() {
    let constants: BTreeSet<_> = constants().into_iter().map(|constant| constant.text).collect();
    for (file, source) in sources() {
        for text in texts(&source) {
            let is_statement = ["SELECT", "INSERT", "UPDATE", "DELETE", "COPY", "WITH", "LOCK"]
                .iter()
                .any(|word| text.starts_with(word));
            let is_about_users = DISTRIBUTED_TABLES.iter().any(|table| text.contains(table));
            assert!(
                !is_statement || !is_about_users || constants.contains(&text),
                "{file}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn the_rules_know_the_tables_and_the_volatile_functions() {
    let database = TestDatabase::new().await;
    let config = Config::from_url(database.url()).unwrap();
    let session = Session::writer(&config).await.unwrap();
    let query = async |sql: &str, names: &[String]| -> Vec<String> {
        let rows = session.client().query(sql, &[&names]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let of_users = "SELECT table_name::text FROM information_schema.columns JOIN information_schema.tables \
                    USING (table_schema, table_name) WHERE column_name = 'user_id' AND table_type = 'BASE TABLE' \
                    AND table_name LIKE 'health%' AND $1::text[] IS NOT NULL ORDER BY table_name";
    let mut distributed = DISTRIBUTED_TABLES;
    distributed.sort_unstable();
    assert_eq!(query(of_users, &[]).await, distributed);
    let others = "SELECT table_name::text FROM information_schema.tables WHERE table_name LIKE 'health%' \
                  AND table_type = 'BASE TABLE' AND table_name <> ALL ($1) ORDER BY table_name";
    assert_eq!(query(others, &DISTRIBUTED_TABLES.map(String::from)).await, LOCAL_TABLES);
    let volatile =
        "SELECT DISTINCT proname::text FROM pg_proc WHERE provolatile = 'v' AND proname = ANY($1) ORDER BY 1";
    assert_eq!(
        query(volatile, &VOLATILE_FUNCTIONS.map(String::from)).await,
        VOLATILE_FUNCTIONS
    );
    let of_citus: &[_] = if is_on_citus() {
        &VOLATILE_FUNCTIONS_OF_CITUS
    } else {
        &[]
    };
    assert_eq!(
        query(volatile, &VOLATILE_FUNCTIONS_OF_CITUS.map(String::from)).await,
        of_citus
    );
    let known = [VOLATILE_FUNCTIONS.as_slice(), of_citus].concat();
    let about_users = |constant: &Constant| DISTRIBUTED_TABLES.iter().any(|table| constant.text.contains(table));
    let names: Vec<_> = constants()
        .iter()
        .filter(|constant| about_users(constant))
        .flat_map(|constant| called(&constant.text))
        .collect();
    for name in query(volatile, &names).await {
        assert!(known.contains(&name.as_str()), "{name} is volatile");
    }
}

/// Returns the sources of `store/` without tests.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                if !name.ends_with("_tests") {
                    folders.push(path);
                }
            } else if name != "shape_rules.rs" && !name.ends_with("_tests.rs") {
                let source = fs::read_to_string(path).unwrap();
                let code = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
                let is_code = |line: &&str| !line.trim_start().starts_with("//");
                sources.push((name, code.lines().filter(is_code).collect::<Vec<_>>().join("\n")));
            }
        }
    }
    sources
}

/// Returns the constants of all files that are texts.
fn constants() -> Vec<Constant> {
    let mut constants = Vec::new();
    for (file, source) in sources() {
        for declaration in source.split("const ").skip(1) {
            if let Some((name, value)) = declaration.split_once(": &str =") {
                let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                if let (true, Some(text)) = (is_name, texts(value).into_iter().next()) {
                    constants.push(Constant {
                        file: file.clone(),
                        name: name.to_owned(),
                        text,
                    });
                }
            }
        }
    }
    constants
}

/// Returns the string literals in Rust code, as the program sees them.
fn texts(code: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let code = code.replace("'\"'", "");
    let mut rest = code.chars();
    while rest.any(|c| c == '"') {
        let mut text = String::new();
        while let Some(c) = rest.next().filter(|c| *c != '"') {
            match (c, rest.as_str().chars().next()) {
                ('\\', Some('\n')) => rest = rest.as_str().trim_start().chars(),
                ('\\', Some(escaped)) => {
                    text.push(escaped);
                    rest.next();
                }
                _ => text.push(c),
            }
        }
        texts.push(text);
    }
    texts
}
