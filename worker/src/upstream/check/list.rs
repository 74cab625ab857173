//! Lists of models, in the forms that servers use.

use serde_json::{Map, Value};

/// A model that an upstream lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    /// Its name.
    pub id: String,
    /// All fields of its entry.
    pub fields: Map<String, Value>,
}

/// Returns the models of `{"data": […]}` (OpenAI, Anthropic), of a bare list, or of `{"models": […]}`.
pub(super) fn read(json: Value) -> Option<Vec<ListedModel>> {
    let models = match json {
        Value::Array(models) => models,
        Value::Object(mut object) => {
            match object.remove("data").or_else(|| object.remove("models"))? {
                Value::Array(models) => models,
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Object(_) => return None,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    };
    models.into_iter().map(model).collect()
}

fn model(json: Value) -> Option<ListedModel> {
    let Value::Object(fields) = json else { return None };
    let id = fields.get("id").or_else(|| fields.get("name"))?.as_str()?.to_owned();
    Some(ListedModel { id, fields })
}

/// True if `listed` is the model that clients call `name`. Some servers list `models/NAME` or `NAME:latest` and
/// accept the short name too.
pub(super) fn is_named(listed: &str, name: &str) -> bool {
    let rest = listed.strip_suffix(name);
    listed == name
        || rest.is_some_and(|rest| rest.ends_with('/'))
        || listed.strip_prefix(name) == Some(":latest")
}
