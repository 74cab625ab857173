//! Reads the layers, merges them, and names the source of a bad value.

use std::path::PathBuf;

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::Serialized,
    value::{Dict, Map, Num, Value},
};
use serde::Serialize;

use super::{
    check,
    environment::{Environment, file},
    error::ConfigError,
    file_text::FileText,
    keys::{self, Keys},
    top_level::Config,
    type_errors,
};

/// Loads the configuration of `flags` (a value with the typed keys as fields) over
/// `environment` over the file.
///
/// # Errors
/// If a layer is unreadable, or a setting is unknown, of the wrong type or out of bounds; the
/// message names the key and its place.
pub(crate) fn load(
    flags: &impl Serialize,
    config_file: Option<PathBuf>,
    environment: &Environment,
) -> Result<Config, ConfigError> {
    let defaults = dict(&Serialized::defaults(Config::default()))?;
    let keys = Keys::of(&defaults);
    // The order of the merges is that of precedence.
    let mut figment =
        Figment::from(Layer { location: "the defaults".to_owned(), values: defaults });
    let path = file(config_file, environment);
    let file = path.map(|path| FileText::read(&path)).transpose()?;
    if let Some(file) = &file {
        figment = figment.merge(file_layer(file, &keys)?);
    }
    for layer in read_environment(environment, &keys)? {
        figment = figment.merge(layer);
    }
    let typed = dict(&Serialized::defaults(flags))?;
    figment = figment.merge(Layer { location: "the command line".to_owned(), values: typed });
    let location_of = |key: &str, layer: &str| match &file {
        Some(file) if file.location == layer => file.location_of(key),
        Some(_) | None => layer.to_owned(),
    };
    let type_error = |error| type_errors::refused(&error, &keys, location_of);
    let mut config: Config = figment.extract().map_err(type_error)?;
    check::limits(&config).map_err(|violation| {
        let layer = figment.find_metadata(violation.key).map_or("", |metadata| &metadata.name);
        // The rule of a list already names the lane or the tenant.
        let location = if keys.is_table(violation.key) {
            layer.to_owned()
        } else {
            location_of(violation.key, layer)
        };
        ConfigError(format!("{location}: `{}` {}", violation.key, violation.rule))
    })?;
    check::resolve(&mut config, environment)?;
    Ok(config)
}

/// The values of one source.
struct Layer {
    location: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.location.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn dict(provider: &impl Provider) -> Result<Dict, ConfigError> {
    let mut profiles = provider.data().map_err(|error| ConfigError(error.to_string()))?;
    Ok(profiles.remove(&Profile::Default).unwrap_or_default())
}

/// Checks the names of the keys in `file`; those of lanes and tenants are checked during
/// extraction.
fn file_layer(file: &FileText, keys: &Keys) -> Result<Layer, ConfigError> {
    let values = file.values()?;
    if let Some(list) = keys.first_single(&values) {
        let location = file.location_of(list);
        let why = format!("`[{list}]` must be `[[{list}]]`: each {list} has one of its own");
        return Err(ConfigError(format!("{location}: {why}")));
    }
    if let Some(wrong) = keys.first_unknown(&values) {
        return Err(ConfigError(format!(
            "{}: {}",
            file.location_of(&wrong),
            unknown(&wrong, keys)
        )));
    }
    Ok(Layer { location: file.location.clone(), values })
}

/// Returns true for the variables that Kubernetes sets in every pod for a service named `causeway`,
/// which share the prefix.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix(keys::PREFIX).unwrap_or(name);
    rest == "PORT" || rest.starts_with("PORT_") || rest.contains("SERVICE_")
}

fn read_environment(environment: &Environment, keys: &Keys) -> Result<Vec<Layer>, ConfigError> {
    let mut layers = Vec::new();
    for (name, text) in environment {
        // The path of the file is no setting in it.
        if name == "CAUSEWAY_CONFIG" || !name.starts_with(keys::PREFIX) {
            continue;
        }
        // Lists of tables have no text form.
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
            return Err(ConfigError(format!("the variable {name} sets no known setting{hint}")));
        };
        let value = read_as(default, text).ok_or_else(|| {
            ConfigError(format!("the variable {name}: {text:?} is not {}", kind(default)))
        })?;
        let location = format!("the variable {name}");
        layers.push(Layer { location, values: keys::nest(key, value) });
    }
    Ok(layers)
}

/// Parses `text` as a value of the same type as `default`; everything but numbers and switches is
/// text.
fn read_as(default: &Value, text: &str) -> Option<Value> {
    match default {
        Value::Bool(..) => match text {
            "true" | "1" | "yes" => Some(true.into()),
            "false" | "0" | "no" => Some(false.into()),
            _ => None,
        },
        Value::Num(_, Num::F32(_) | Num::F64(_)) => text.trim().parse::<f64>().ok().map(Into::into),
        // TOML permits `10_000`.
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
        // A key below the header of a table belongs to that table.
        Some(key) if wrong.contains('.') && !key.contains('.') => {
            format!("did you mean `{key}`, above the first table?")
        }
        Some(key) => format!("did you mean `{key}`?"),
        None => format!("known beside it: {}", keys.beside(wrong).join(", ")),
    };
    format!("there is no setting `{wrong}`; {hint}")
}

#[cfg(test)]
mod tests;
