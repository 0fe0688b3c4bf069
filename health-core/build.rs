//! Rebuilds when a migration is added: the macro that embeds them looks at the folder only while it compiles.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
