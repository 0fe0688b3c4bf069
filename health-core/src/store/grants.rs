//! The rights that a role needs to serve, as statements for the owner of the tables.

use tokio_postgres::Row;

use crate::{
    config::Config,
    error::Error,
    identifier::quoted,
    store::{connect_refusal::classify_connect, connection::Session, database, refusal::classify, tables::Tables},
};

/// The tables and sequences of this program, with their schema, by name. They are found through `health_metrics`, so
/// that they may be in any schema of the search path.
const RELATIONS: &str = "SELECT namespace.nspname::text, relation.relname::text, relation.relkind::text \
     FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace \
     WHERE relation.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'health_metrics'::regclass) \
     AND relation.relkind IN ('r', 'p', 'S') \
     AND (starts_with(relation.relname::text, 'health_') OR relation.relname = 'refinery_schema_history') \
     ORDER BY 2";

/// The table that lists the applied migrations. The server reads it only.
const HISTORY: &str = "refinery_schema_history";

/// Returns the statements that give a role every right that the server needs when it serves, one a line.
///
/// The schema must be up to date: see [`migrate`](crate::migrate). A later migration may add tables; run the statements
/// of that version then.
///
/// # Errors
/// [`Error::Unavailable`] if the database cannot be reached, [`Error::Database`] if there are no tables.
pub async fn grants(config: &Config, role: &str) -> Result<String, Error> {
    let session = Session::plain(config).await.map_err(classify_connect)?;
    let database = database::facts(&session).await.map_err(classify)?.name;
    let rows = session.client().query(RELATIONS, &[]).await.map_err(classify)?;
    let mut statements = statements(&database, &rows, role);
    if session.tables() == Tables::Distributed {
        let grant = format!(
            "GRANT EXECUTE ON FUNCTION recover_prepared_transactions() TO {};\n",
            quoted(role)
        );
        statements.push_str(&grant);
    }
    Ok(statements)
}

fn statements(database: &str, relations: &[Row], role: &str) -> String {
    let named = |wanted: &dyn Fn(&str, &str) -> bool| -> String {
        let of_kind = relations.iter().filter(|row| wanted(row.get(1), row.get(2)));
        let names: Vec<_> = of_kind
            .map(|row| format!("{}.{}", quoted(row.get(0)), quoted(row.get(1))))
            .collect();
        names.join(", ")
    };
    let tables = named(&|name, kind| kind != "S" && name != HISTORY);
    let history = named(&|name, _| name == HISTORY);
    let sequences = named(&|_, kind| kind == "S");
    let schema = relations.first().map_or("public", |row| row.get(0));
    let (database, schema, role) = (quoted(database), quoted(schema), quoted(role));
    format!(
        "GRANT CONNECT ON DATABASE {database} TO {role};\n\
         GRANT USAGE ON SCHEMA {schema} TO {role};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {tables} TO {role};\n\
         GRANT SELECT ON TABLE {history} TO {role};\n\
         GRANT USAGE, SELECT ON SEQUENCE {sequences} TO {role};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_so_that_sql_reads_it_as_one_identifier() {
        assert_eq!(quoted("app"), r#""app""#);
        assert_eq!(quoted("a\"; DROP ROLE b; --"), r#""a""; DROP ROLE b; --""#);
    }
}
