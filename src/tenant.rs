//! `causeway tenant`: the tenants of a running Causeway, and keys for the configuration file.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{
    cli::{TenantAdd, TenantCommand, TenantRevoke, TenantRotate},
    client::Client,
    config::{Config, Digest},
    table,
};

const COLUMNS: [&str; 7] = ["TENANT", "SOURCE", "ADMIN", "WEIGHT", "LIMITS", "KEY", "EXPIRES"];

/// Prints a new key once, and the configuration that accepts it.
///
/// # Errors
/// If the system has no randomness, or standard output is closed.
pub(crate) fn key() -> anyhow::Result<ExitCode> {
    let key = causeway_api::new_key()?;
    writeln!(io::stdout(), "{}", key.text)?;
    writeln!(
        io::stderr(),
        "The key above is for the tenant, and is shown only once. The configuration contains its hash:\n\n\
         [[tenant]]\nid = \"NAME\"\nkey_sha256 = [\"{}\"]",
        Digest(key.sha256)
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the command on the running Causeway.
///
/// # Errors
/// If the server refuses it or does not answer.
pub(crate) async fn run(config: &Config, typed: &TenantCommand) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    match typed {
        TenantCommand::Add(typed) => add(config, &client, typed).await?,
        TenantCommand::List(typed) => {
            let listed = client.get(&["tenants"]).await?;
            if typed.json {
                writeln!(io::stdout(), "{listed:#}")?;
            } else {
                show(listed["data"].as_array().map_or(&[], Vec::as_slice), &mut io::stdout())?;
            }
        }
        TenantCommand::Rotate(typed) => rotate(&client, typed).await?,
        TenantCommand::Revoke(typed) => revoke(&client, typed).await?,
        TenantCommand::Limit(typed) => {
            let limits = typed.limits.typed();
            ensure!(!limits.is_empty(), "name a limit to change, such as --max-running 10");
            let tenant = client.patch(&["tenants", &typed.id], &Value::Object(limits)).await?;
            show(&[tenant], &mut io::stdout())?;
        }
        TenantCommand::Key => return key(),
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(config: &Config, client: &Client, typed: &TenantAdd) -> anyhow::Result<()> {
    let mut body = typed.limits.typed();
    body.insert("id".to_owned(), json!(typed.id));
    body.insert("admin".to_owned(), json!(typed.admin));
    body.insert("webhook_url".to_owned(), json!(typed.webhook_url));
    body.insert("expires_in".to_owned(), json!(typed.expires.map(seconds)));
    let added = client.post(&["tenants"], &Value::Object(body)).await?;
    print_key(&added)?;
    // The server accepted a call without a key, so it had no tenant before.
    if config.client_key.is_none() {
        writeln!(
            io::stderr(),
            "This server was open. From now on every call needs a key, this command too: put the key \
             into a variable, and name it with --key-env. Jobs that were submitted without a key belong \
             to the tenant `default`: add that tenant to reach them."
        )?;
    }
    Ok(())
}

async fn rotate(client: &Client, typed: &TenantRotate) -> anyhow::Result<()> {
    let body = json!({
        "expires_in": typed.expires.map(seconds), "keep_old": typed.keep_old.map(seconds),
    });
    let rotated = client.post(&["tenants", &typed.id, "keys"], &body).await?;
    Ok(print_key(&rotated)?)
}

async fn revoke(client: &Client, typed: &TenantRevoke) -> anyhow::Result<()> {
    let TenantRevoke { id, key, .. } = typed;
    match key {
        Some(key) => {
            client.delete(&["tenants", id, "keys", key]).await?;
            writeln!(io::stdout(), "key {key} of tenant {id} is revoked")?;
        }
        None => {
            client.delete(&["tenants", id]).await?;
            writeln!(io::stdout(), "tenant {id} is revoked; its jobs run on")?;
        }
    }
    Ok(())
}

/// Converts a duration to the whole seconds of the API, at least 1 unless it is zero.
fn seconds(span: Duration) -> u64 {
    span.as_secs().max(u64::from(!span.is_zero()))
}

/// Prints only the key on standard output, so that a script can read it.
fn print_key(tenant: &Value) -> io::Result<()> {
    writeln!(io::stdout(), "{}", table::word(&tenant["key"]))?;
    let id = table::word(&tenant["id"]);
    writeln!(
        io::stderr(),
        "The key above is for tenant {id}, and is shown only once. It is valid everywhere within 2 s."
    )
}

/// Writes a line for each key.
fn show(tenants: &[Value], out: &mut impl Write) -> io::Result<()> {
    let rows = tenants.iter().flat_map(|tenant| {
        // A tenant without keys has a line too.
        let none = [Value::Null];
        let keys = tenant["keys"].as_array().filter(|keys| !keys.is_empty());
        let keys = keys.map_or(none.to_vec(), Clone::clone);
        keys.into_iter().map(|key| {
            let admin = if tenant["admin"] == true { "yes" } else { "no" };
            [
                table::word(&tenant["id"]),
                table::word(&tenant["source"]),
                admin.to_owned(),
                tenant["weight"].to_string(),
                limits(tenant),
                table::word(&key["id"]),
                table::word(&key["expires_at"]),
            ]
        })
    });
    table::write(&COLUMNS, rows, out)
}

/// Lists the limits of a tenant briefly.
fn limits(tenant: &Value) -> String {
    let names = [
        ("max_running", "run"),
        ("max_queued", "wait"),
        ("requests_per_minute", "requests/min"),
        ("tokens_per_minute", "tokens/min"),
    ];
    let set = names
        .iter()
        .filter_map(|(field, short)| tenant[field].as_u64().map(|most| format!("{most} {short}")));
    let set: Vec<String> = set.collect();
    if set.is_empty() { "-".to_owned() } else { set.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_line() {
        let tenants = [
            json!({
                "id": "ann", "source": "store", "admin": true, "weight": 2, "max_running": 5,
                "keys": [{ "id": "aaaa", "expires_at": null }, { "id": "bbbb", "expires_at": "2027-01-01" }],
            }),
            json!({ "id": "bob", "source": "configuration", "admin": false, "weight": 1, "keys": [] }),
        ];
        let mut out = Vec::new();
        show(&tenants, &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[1].contains("5 run") && lines[1].contains("aaaa"), "{table}");
        assert!(lines[2].ends_with("2027-01-01") && lines[3].starts_with("bob"), "{table}");
    }
}
