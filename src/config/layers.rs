//! Reads the layers, lays them over each other, and says where a bad value came from.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Serialized, Toml},
    value::{Dict, Map, Num, Value},
};
use serde::Serialize;

use super::{Config, Environment, Refused, check, file, keys, keys::Keys, misfit};

/// The configuration of `flags` (a value whose fields are keys, left out where not typed) over
/// `environment` over the file.
///
/// # Errors
/// When something is unreadable, unknown, of the wrong type or out of bounds; the message names
/// the key and its place.
pub(crate) fn load(
    flags: &impl Serialize,
    config_file: Option<PathBuf>,
    environment: &Environment,
) -> Result<Config, Refused> {
    let defaults = dict(&Serialized::defaults(Config::default()))?;
    let keys = Keys::of(&defaults);
    let mut figment = Figment::from(Layer { place: "the defaults".to_owned(), values: defaults });
    if let Some(path) = file(config_file, environment) {
        figment = figment.merge(read_file(&path, &keys)?);
    }
    for layer in read_environment(environment, &keys)? {
        figment = figment.merge(layer);
    }
    let typed = dict(&Serialized::defaults(flags))?;
    figment = figment.merge(Layer { place: "the command line".to_owned(), values: typed });
    let mut config: Config = figment.extract().map_err(|error| misfit::told(&error))?;
    check::bounds(&config).map_err(|wrong| {
        let place = figment.find_metadata(wrong.key).map_or("", |metadata| &metadata.name);
        Refused(format!("{place}: `{}` {}", wrong.key, wrong.rule))
    })?;
    check::resolve(&mut config, environment)?;
    Ok(config)
}

/// Values from one place.
struct Layer {
    place: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn dict(provider: &impl Provider) -> Result<Dict, Refused> {
    let mut profiles = provider.data().map_err(|error| Refused(error.to_string()))?;
    Ok(profiles.remove(&Profile::Default).unwrap_or_default())
}

fn read_file(path: &Path, keys: &Keys) -> Result<Layer, Refused> {
    let place = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refused(format!("cannot read the configuration {place}: {error}")))?;
    let values: Dict = Toml::from_str(&text)
        .map_err(|error| Refused(format!("{place} is not TOML{}", not_toml(&text, &error))))?;
    let refused = |key: &str, why: String| {
        let line = line_of(&text, key).map_or(String::new(), |line| format!(", line {line}"));
        Err(Refused(format!("{place}{line}: {why}")))
    };
    if let Some(list) = keys.first_single(&values) {
        let why = format!("`[{list}]` must be `[[{list}]]`: each {list} has one of its own");
        return refused(list, why);
    }
    if let Some(wrong) = keys.first_unknown(&values) {
        return refused(&wrong, unknown(&wrong, keys));
    }
    Ok(Layer { place, values })
}

/// Where the text ceases to be TOML, and why. The line is not shown: a secret may stand in it.
fn not_toml(text: &str, error: &<Toml as Format>::Error) -> String {
    let why = error.message().trim_end().replace('\n', ", ");
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else { return format!(": {why}") };
    let line = before.split('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!(", line {line}, column {column}: {why}")
}

/// Variables of another program's making that begin alike: Kubernetes describes a service named
/// `causeway` to every pod by such.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(keys::PREFIX).unwrap_or(name);
    rest == "PORT" || rest.starts_with("PORT_") || rest.contains("SERVICE_")
}

fn read_environment(environment: &Environment, keys: &Keys) -> Result<Vec<Layer>, Refused> {
    let mut layers = Vec::new();
    for (name, text) in environment {
        if name == "CAUSEWAY_CONFIG" || !name.starts_with(keys::PREFIX) {
            continue;
        }
        let of_variable = keys.of_variable(name).filter(|(key, _)| !keys.is_table(key));
        let Some((key, default)) = of_variable else {
            if is_service_link(name) {
                continue;
            }
            let key = name.trim_start_matches(keys::PREFIX).to_ascii_lowercase();
            let hint = match keys.closest(&key) {
                Some(list) if keys.is_table(list) => {
                    format!("; each {list} is a `[[{list}]]` of the configuration file")
                }
                Some(key) => format!("; did you mean {}?", keys::variable(key)),
                None => String::new(),
            };
            return Err(Refused(format!("the variable {name} sets nothing that exists{hint}")));
        };
        let value = read_as(default, text).ok_or_else(|| {
            Refused(format!("the variable {name}: {text:?} is not {}", kind(default)))
        })?;
        let place = format!("the variable {name}");
        layers.push(Layer { place, values: keys::nest(key, value) });
    }
    Ok(layers)
}

/// `text` as a value of the same kind as `default`; everything but numbers and switches is text.
fn read_as(default: &Value, text: &str) -> Option<Value> {
    match default {
        Value::Bool(..) => match text {
            "true" | "1" | "yes" => Some(true.into()),
            "false" | "0" | "no" => Some(false.into()),
            _ => None,
        },
        Value::Num(_, Num::F32(_) | Num::F64(_)) => text.trim().parse::<f64>().ok().map(Into::into),
        Value::Num(..) => text.trim().replace('_', "").parse::<i64>().ok().map(Into::into),
        Value::String(..)
        | Value::Char(..)
        | Value::Empty(..)
        | Value::Dict(..)
        | Value::Array(..) => Some(text.into()),
    }
}

fn kind(default: &Value) -> &'static str {
    match default {
        Value::Bool(..) => "true or false",
        Value::Num(_, Num::F32(_) | Num::F64(_)) => "a number",
        Value::Num(..) => "a whole number",
        Value::String(..)
        | Value::Char(..)
        | Value::Empty(..)
        | Value::Dict(..)
        | Value::Array(..) => "a text",
    }
}

fn unknown(wrong: &str, keys: &Keys) -> String {
    let hint = match keys.closest(wrong) {
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("known beside it: {}", keys.beside(wrong).join(", ")),
    };
    format!("there is no setting `{wrong}`; {hint}")
}

/// The line, from 1, on which `key` (dotted) is set or begins a section in a TOML text; a key written
/// in a form that this does not see has none.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let name = header.trim_matches(['[', ']', ' ']);
            if name == key {
                return Some(index + 1);
            }
            section = name.to_owned() + ".";
        } else if let Some((name, _)) = line.split_once('=')
            && format!("{section}{}", name.trim()).trim_start_matches('.') == key
        {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests;
