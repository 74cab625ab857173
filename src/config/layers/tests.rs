use std::{collections::BTreeSet, io::Write as _, time::Duration};

use clap::{CommandFactory as _, Parser as _};
use figment::providers::{Format as _, Toml};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    cli::{Cli, Command, UpFlags},
    config::Digest,
};

const SAMPLE: &str = include_str!("../../../causeway.example.toml");

fn written(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn variables(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn typed(line: &str) -> UpFlags {
    match Cli::try_parse_from(line.split(' ')).unwrap().command {
        Command::Up(up) => up.flags,
        other => panic!("not up: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str, environment: &[(&str, &str)]) -> String {
    let file = written(text);
    let path = Some(file.path().to_owned());
    load(&UpFlags::default(), path, &variables(environment)).unwrap_err().to_string()
}

#[test]
fn an_empty_configuration_has_the_defaults() {
    let config = load(&UpFlags::default(), None, &Environment::new()).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn a_later_layer_wins() {
    let file = written("concurrency = 1\ndrain = 1\nlease = \"1s\"\n[bridge]\nwait = 1\n");
    let path = Some(file.path().to_owned());
    let environment = variables(&[("CAUSEWAY_CONCURRENCY", "2"), ("CAUSEWAY_DRAIN", "2")]);
    let flags = typed("causeway up --concurrency 3 --log-format json");
    let config = load(&flags, path, &environment).unwrap();
    assert_eq!(config.concurrency, 3);
    assert_eq!(config.drain, Duration::from_secs(2));
    assert_eq!(config.lease, Duration::from_secs(1));
    assert_eq!(config.bridge.wait, Duration::from_secs(1));
    assert_eq!(config.bridge.turns, 20);
    assert_eq!(config.log.format, crate::config::LogFormat::Json);
}

#[test]
fn a_variable_names_the_file() {
    let file = written("concurrency = 7\n");
    let environment = variables(&[("CAUSEWAY_CONFIG", file.path().to_str().unwrap())]);
    let config = load(&UpFlags::default(), None, &environment).unwrap();
    assert_eq!(config.concurrency, 7);
}

#[test]
fn variables_reach_into_sections() {
    let environment = variables(&[
        ("CAUSEWAY_SIMULATED_CALL", "5"),
        ("CAUSEWAY_SIMULATED_ERRORS", "0.1"),
        ("CAUSEWAY_BRIDGE_MODEL", "17"),
        ("CAUSEWAY_ALLOW_OPEN_BIND", "1"),
        ("CAUSEWAY_PORT_4004_TCP", "tcp://10.0.0.1:4004"),
    ]);
    let config = load(&UpFlags::default(), None, &environment).unwrap();
    assert_eq!(config.simulated.call, Some(Duration::from_secs(5)));
    assert!((config.simulated.errors - 0.1).abs() < f64::EPSILON);
    assert_eq!(config.bridge.model, "17");
    assert!(config.allow_open_bind);
}

#[test]
fn errors_name_the_key_and_its_place() {
    for (text, environment, parts) in [
        ("\nlese = 1", &[][..], &["line 2", "`lese`", "`lease`"][..]),
        ("[bridge]\nwaits = 1", &[], &["line 2", "`bridge.waits`", "`bridge.wait`"]),
        ("[bridge]\nxyzzy = 1", &[], &["`bridge.xyzzy`", "bridge.turns"]),
        ("drain = ", &[], &["is not TOML", "line 1"]),
        ("drain = true", &[], &[".toml, line 1: ", "`drain`", "duration"]),
        ("\n[bridge]\nturns = 2000", &[], &[".toml, line 3: ", "`bridge.turns`", "0 to 1000"]),
        ("[bridge]\ndrain = 5", &[], &["line 2", "did you mean `drain`, above the first table?"]),
        ("max_wait = 5", &[], &["line 1", "did you mean `api.max_wait`?"]),
        ("bind = \"1\"", &[], &[".toml", "`bind`", "such as 127.0.0.1:4004"]),
        ("[simulated]\nhost = 1", &[], &["`simulated.host` is 1", "such as 127.0.0.1"]),
        ("allow_open_bind = 1", &[], &["`allow_open_bind` is 1", "true or false"]),
        ("\n[tenant]\nid = \"ann\"", &[], &["line 2", "`[tenant]` must be `[[tenant]]`"]),
        ("lane = {}", &[], &["line 1", "`[lane]` must be `[[lane]]`"]),
        ("concurrency = 0", &[], &[".toml", "`concurrency`", "1 to 100000"]),
        ("max_dead = 0", &[], &[".toml", "`max_dead`", "1 to 1000000"]),
        ("", &[("CAUSEWAY_LESE", "1")], &["CAUSEWAY_LESE", "CAUSEWAY_LEASE"]),
        ("", &[("CAUSEWAY_TENANTS", "x")], &["CAUSEWAY_TENANTS", "`[[tenant]]` of the"]),
        ("", &[("CAUSEWAY_TENANT", "x")], &["CAUSEWAY_TENANT", "`[[tenant]]` of the"]),
        ("", &[("CAUSEWAY_LANES", "x")], &["CAUSEWAY_LANES", "`[[lane]]` of the"]),
        ("", &[("CAUSEWAY_CONCURRENCY", "many")], &["CAUSEWAY_CONCURRENCY", "whole number"]),
        ("", &[("CAUSEWAY_CONCURRENCY", "-1")], &["CAUSEWAY_CONCURRENCY", "is -1", "1 to 100000"]),
        ("", &[("CAUSEWAY_LEASE", "1ms")], &["CAUSEWAY_LEASE", "`lease`", "100ms to 1d"]),
        (
            "[api]\nforward_headers = [\"Cookie\"]",
            &[],
            &["`api.forward_headers`", "never forwarded"],
        ),
        ("[api]\ncors_origins = [\"a.example\"]", &[], &["`api.cors_origins`", "https://"]),
        ("[api]\ncors_origins = [\"http://a/b\"]", &[], &["`api.cors_origins`", "http://a/b"]),
        ("[webhooks]\nallow = [\"a b\"]", &[], &["`webhooks.allow`", "a b", "10.1.0.0/16"]),
        ("[webhooks]\nretry_base = \"6s\"", &[], &["`webhooks.retry_base`", "1ms to 5s"]),
        ("", &[("CAUSEWAY_WEBHOOKS_SECRET_ENV", "S"), ("S", "x")], &["variable S", "whsec_"]),
        ("api_key_env = \"NO_SUCH\"", &[], &["`api_key_env`", "NO_SUCH", "not set"]),
        ("upstream = \"localhost:1\"", &[], &["`upstream`", "http://host:port"]),
        ("[simulated]\nerrors = 0.6\ncuts = 0.6", &[], &["`simulated.errors`", "more than 1"]),
    ] {
        let message = refused(text, environment);
        assert!(!message.contains("did you mean CAUSEWAY_TENANT?"), "{message}");
        assert!(parts.iter().all(|part| message.contains(part)), "{text:?}: {message}");
    }
}

#[test]
fn a_variable_separates_list_items_by_commas() {
    let file = written("[webhooks]\nallow = [\"10.0.0.0/8\", \"a.internal\"]\n");
    let path = Some(file.path().to_owned());
    let config = load(&UpFlags::default(), path.clone(), &Environment::new()).unwrap();
    assert_eq!(config.webhooks.allow, ["10.0.0.0/8", "a.internal"]);
    let environment = variables(&[("CAUSEWAY_WEBHOOKS_ALLOW", "127.0.0.0/8, b.internal")]);
    let config = load(&UpFlags::default(), path, &environment).unwrap();
    assert_eq!(config.webhooks.allow, ["127.0.0.0/8", "b.internal"]);
}

#[test]
fn an_unreadable_file_is_named() {
    let path = Some(PathBuf::from("no/such/file.toml"));
    let error = load(&UpFlags::default(), path, &Environment::new()).unwrap_err().to_string();
    assert!(error.contains("no/such/file.toml"), "{error}");
}

#[test]
fn debug_output_hides_secrets() {
    let environment = variables(&[("MY_KEY", "sk-hidden"), ("CAUSEWAY_API_KEY_ENV", "MY_KEY")]);
    let flags = typed(
        "causeway up --redis redis://user:hidden@127.0.0.1:1 --upstream http://user:hidden@h/v1",
    );
    let config = load(&flags, None, &environment).unwrap();
    assert_eq!(config.api_key.as_ref().unwrap().expose(), "sk-hidden");
    assert!(!format!("{config:?}").contains("-hidden"));
    assert!(!format!("{config:?}").contains(":hidden"));
}

#[test]
fn errors_hide_misplaced_secrets() {
    let tenant = |line: &str| format!("[[tenant]]\nid = \"ann\"\n{line}\n");
    let digest = "00bbccddeeff00112233445566778899aabbccddeeff00112233445566778899";
    let with_key = |line: &str| tenant(&format!("key_sha256 = [\"{digest}\"]\n{line}"));
    for (text, environment, part) in [
        (tenant("key_sha256 = \"cw_5ec7e7\""), &[][..], "`tenant.0.key_sha256` is a text"),
        (tenant("key_sha256 = [\"cw_5ec7e7\"]"), &[], "64 hexadecimal"),
        (tenant("key_sha256 = 5007"), &[], "`tenant.0.key_sha256` is a number"),
        (tenant("key_sha256 = [\"cw_5ec7e7]"), &[], "line 3, column 26: invalid basic string"),
        (tenant("key_sha256 = cw_5ec7e7"), &[], "line 3, column 14: invalid string"),
        (tenant("max_running = \"cw_5ec7e7\""), &[], "max_running` is a text, it must be a whole"),
        (with_key("webhook_secret_env = \"whsec_5ec7e7\""), &[], "webhook_secret_env` is a text"),
        (with_key("webhook_secret_env = [\"whsec_5ec7e7\"]"), &[], "of tenant ann must name"),
        (with_key("webhook_url = \"hooks.example/5ec7e7\""), &[], "look like https://host/path"),
        (with_key("webhook_url = \"ftp://h.example/5ec7e7\""), &[], "with http or https"),
        ("api_key_env = \"sk-5ec7e7\"".to_owned(), &[], "`api_key_env` must name the variable"),
        ("api_key_env = 5007".to_owned(), &[], "`api_key_env` is a number"),
        ("upstream = \"htp://me:5ec7e7@host\"".to_owned(), &[], "`upstream` begins with htp:"),
        ("upstream = \"http://h/v1?key=5ec7e7#x\"".to_owned(), &[], "`upstream` has a #fragment"),
        ("upstream = 5007".to_owned(), &[], "`upstream` is a number"),
        ("proxy = \"ftp://me:5ec7e7@p\"".to_owned(), &[], "`proxy` is not a proxy"),
        (String::new(), &[("https_proxy", "ftp://me:5ec7e7@p")], "the variable https_proxy"),
        (String::new(), &[("CAUSEWAY_TENANT", "cw_5ec7e7")], "`[[tenant]]` of the"),
        (String::new(), &[("CAUSEWAY_CLIENT_KEY_ENV", "cw_5ec7e7")], "`client.key_env` must name"),
        (String::new(), &[("CAUSEWAY_WEBHOOKS_SECRET_ENV", "whsec_5ec7e7")], "secret_env` must"),
    ] {
        let message = refused(&text, environment);
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(!message.contains("5ec7e7") && !message.contains("5007"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn the_sample_file_lists_every_default() {
    let uncommented: String = SAMPLE
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => Some(format!("{rest}\n")),
            Some(_) => None,
            None => Some(format!("{line}\n")),
        })
        .collect();
    let defaults = dict(&Serialized::defaults(Config::default())).unwrap();
    let keys = Keys::of(&defaults);
    let sample = dict(&Toml::string(&uncommented)).unwrap();
    assert_eq!(keys.first_unknown(&sample), None);
    let sampled = Keys::of(&sample);
    let named: BTreeSet<&str> = sampled.names().collect();
    let missing: Vec<&str> = keys.names().filter(|key| !named.contains(key)).collect();
    assert!(missing.is_empty(), "not in the sample: {missing:?}");

    // Tenants and lanes are at the end of the file. Settings without a default value show an
    // example and are left out.
    let (uncommented, lists) = uncommented.split_once("[[tenant]]").unwrap();
    assert!(lists.contains("[[lane]]"));
    let off = ["redis", "upstream", "api_key_env", "proxy", "ca_file", "client_cert_file"];
    let more = ["client_key_file", "probe", "worker_name", "call", "persona_file", "key_env"];
    let of_machine = ["max_response_memory", "max_body_memory"];
    let mut values = uncommented.to_owned();
    for key in off.iter().chain(&more).chain(&of_machine) {
        values = values
            .lines()
            .filter(|line| !line.starts_with(&format!("{key} =")))
            .fold(String::new(), |text, line| text + line + "\n");
    }
    let file = written(&values);
    let path = Some(file.path().to_owned());
    let config = load(&UpFlags::default(), path, &Environment::new()).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn a_variable_sets_the_response_memory() {
    let environment =
        Environment::from([("CAUSEWAY_MAX_RESPONSE_MEMORY".into(), "67108864".into())]);
    let config = load(&UpFlags::default(), None, &environment).unwrap();
    assert_eq!(config.max_response_memory, 64 << 20);
}

#[test]
fn response_memory_holds_the_longest_answer() {
    let texts = ["max_response_memory = 2048\nmax_response_bytes = ", "2048", "2049"];
    let [start, fits, longer] = texts;
    let message = refused(&format!("{start}{longer}"), &[]);
    assert!(message.contains("must be at least `max_response_bytes`, 2049"), "{message}");
    let path = written(&format!("{start}{fits}"));
    let config = load(&UpFlags::default(), Some(path.path().to_owned()), &Environment::new());
    assert_eq!(config.unwrap().max_response_memory, 2048);
}

#[test]
fn the_sample_file_changes_no_default() {
    let file = written(SAMPLE);
    let path = Some(file.path().to_owned());
    assert_eq!(load(&UpFlags::default(), path, &Environment::new()).unwrap(), Config::default());
}

#[test]
fn every_server_flag_is_a_key() {
    let keys = Keys::of(&dict(&Serialized::defaults(Config::default())).unwrap());
    for (command, section) in [("up", ""), ("api", ""), ("worker", ""), ("simulate", "simulated.")]
    {
        let root = Cli::command();
        let command = root.find_subcommand(command).unwrap();
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let flag = arg.get_long().unwrap().replace('-', "_");
            let key = match flag.strip_prefix("log_") {
                Some(rest) => format!("log.{rest}"),
                None => format!("{section}{flag}"),
            };
            let known = keys.names().any(|name| name == key);
            assert!(known || ["config", "help", "version"].contains(&flag.as_str()), "{key}");
        }
    }
}

const TENANTS: &str = r#"
[[tenant]]
id = "ann"
key_sha256 = ["AAbbccddeeff00112233445566778899aabbccddeeff00112233445566778899"]
weight = 3
max_running = 2
[[tenant]]
id = "bob"
key_sha256 = ["00bbccddeeff00112233445566778899aabbccddeeff00112233445566778899"]
admin = true
[[lane]]
name = "gpu"
models = ["m"]
shards = 2
max_running = 8
"#;

#[test]
fn tenants_and_lanes_are_read() {
    let file = written(TENANTS);
    let path = Some(file.path().to_owned());
    let config = load(&UpFlags::default(), path, &Environment::new()).unwrap();
    let [ann, bob] = &config.tenants[..] else { panic!("{:?}", config.tenants) };
    assert_eq!((ann.weight, ann.max_running, ann.admin), (3, Some(2), false));
    assert_eq!(ann.key_sha256[0].0[..3], [0xaa, 0xbb, 0xcc]);
    assert_eq!((bob.weight, bob.max_running, bob.admin), (1, None, true));
    assert_eq!(config.lanes[0].limits().max_queued, 1_000_000);
    assert_eq!(config.queue_lanes()[0].shards, 2);
}

#[test]
fn invalid_tenants_and_lanes_are_refused() {
    for (right, wrong, parts) in [
        ("\"bob\"", "\"ann\"", ["ann", "twice"]),
        ("\"bob\"", "\"b b\"", ["tenant.1.id", "1 to 64"]),
        ("\"00bb", "\"AAbb", ["bob", "key of another tenant"]),
        ("\"00bb", "\"0bb", ["key_sha256", "64 hexadecimal"]),
        ("\"00bb", "\"+0bb", ["key_sha256", "64 hexadecimal"]),
        ("weight = 3", "weight = 0", ["ann", "1 to 1000"]),
        (
            "weight = 3",
            "wieght = 3",
            ["line 5: there is no setting `wieght` in `[[tenant]]`", "mean `weight`?"],
        ),
        (
            "shards = 2",
            "max_runing = 2",
            ["line 14: there is no setting `max_runing` in `[[lane]]`", "mean `max_running`?"],
        ),
        (
            "shards = 2",
            "drain = 2",
            ["line 14: there is no setting `drain` in `[[lane]]`", "above the first table"],
        ),
        (
            "shards = 2",
            "zzz = 2",
            ["line 14: there is no setting `zzz` in `[[lane]]`", "known in it: name, models"],
        ),
        ("name = \"gpu\"\n", "", ["line 11: ", "`[[lane]]` needs `name`"]),
        ("max_running = 2", "max_running = 0", ["ann", "max_running"]),
        ("max_running = 2", "max_queued = 0", ["ann", "never accept anything"]),
        ("shards = 2", "shards = 65", ["gpu", "1 to 64"]),
        ("max_running = 8", "max_running = 1", ["gpu", "at least its shards, 2"]),
        ("\"gpu\"", "\"Gpu\"", ["lane.0.name", "a-z"]),
        (
            "max_running = 8",
            "upstream = \"nowhere\"",
            ["gpu has an upstream that", "http://host:port"],
        ),
        ("max_running = 8", "proxy = \"ftp://p\"", ["gpu has a `proxy` that", "environment"]),
        ("max_running = 8", "client_key_file = \"k\"", ["gpu has a", "client_cert_file"]),
        ("max_running = 8", "api_key_env = \"NO_SUCH\"", ["`api_key_env` of lane gpu", "NO_SUCH"]),
        ("\"gpu\"", "\"webhooks\"", ["lane of deliveries", "another name"]),
        ("weight = 3", "webhook_url = \"https://127.0.0.1/\"", ["ann", "webhooks.allow"]),
        ("weight = 3", "webhook_url = \"https://example.com/\"", ["ann", "webhooks.secret_env"]),
        ("weight = 3", "webhook_secret_env = [\"NO_SUCH\"]", ["of tenant ann", "NO_SUCH"]),
    ] {
        let text = refused(&TENANTS.replacen(right, wrong, 1), &[]);
        assert!(parts.iter().all(|part| text.contains(part)), "{wrong}: {text}");
    }
}

#[test]
fn every_number_error_names_its_range() {
    let defaults = dict(&Serialized::defaults(Config::default())).unwrap();
    let keys = Keys::of(&defaults);
    let is_whole = |key: &&str| {
        let (_, value) = keys.of_variable(&keys::variable(key)).unwrap();
        matches!(value, Value::Num(_, number) if !matches!(number, Num::F32(_) | Num::F64(_)))
    };
    let plain = keys.names().filter(is_whole).map(|key| (key, format!("{key} = -1")));
    let of_tenant = ["weight", "max_running", "max_queued", "requests_per_minute"];
    let of_tenant = of_tenant
        .map(|key| (key, format!("[[tenant]]\nid = \"ann\"\nkey_sha256 = []\n{key} = -1")));
    let of_lane = ["shards", "max_running", "max_queued", "tokens_per_minute"];
    let of_lane = of_lane.map(|key| (key, format!("[[lane]]\nname = \"gpu\"\n{key} = -1")));
    for (key, text) in plain.chain(of_tenant).chain(of_lane) {
        let message = refused(&text, &[]);
        let wanted = format!("{key}` is -1, it must be a whole number, ");
        let (_, range) = message.split_once(&wanted).unwrap_or_else(|| panic!("{message}"));
        assert!(range.contains(" to ") || range.starts_with("at least"), "{message}");
    }
    let message = refused("[[tenant]]\nid = \"ann\"\nkey_sha256 = []\nmax_running = -1", &[]);
    assert!(message.contains("`tenant.0.max_running` is -1"), "{message}");
    assert!(message.contains("1 to 4294967295"), "{message}");
}

#[test]
fn a_guessable_key_is_refused() {
    let sha256 = |text: &str| format!("{}", Digest(Sha256::digest(text).into()));
    for (key, what) in [
        ("", "an empty text"),
        ("\n", "an empty text"),
        ("secret", "guessed first"),
        ("x", "a single"),
    ] {
        let text = format!("[[tenant]]\nid = \"ann\"\nkey_sha256 = [\"{}\"]", sha256(key));
        let message = refused(&text, &[]);
        assert!(message.contains(what) && message.contains("causeway tenant key"), "{message}");
    }
}
