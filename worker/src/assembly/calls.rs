//! The tool calls of a message, merged from parts. Their ids, names and indexes may be repeated, empty or missing.

use std::collections::HashMap;

use causeway_queue::json::{RawObject, items};

use super::{
    node::{Fields, Node},
    raw::{MAX_ENTRIES, Rule, TooMany, index_of, is_empty, raw_text},
};

/// Most blanks after complete arguments that are skipped. A limit, so that the cost of an event stays constant.
const MAX_BLANKS: usize = 64;

/// The calls of one message, in the order of their arrival.
#[derive(Debug, Default)]
pub(crate) struct ToolCalls {
    calls: Vec<ToolCall>,
    /// Positions of the latest call with an index, and of the first with an id.
    by_index: HashMap<u64, usize>,
    by_id: HashMap<String, usize>,
}

/// The texts of a call so far, JSON-escaped and without quotes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallTexts<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a str,
}

#[derive(Debug)]
struct ToolCall {
    /// Its index; without one, its position.
    index: u64,
    fields: Fields,
}

/// A parsed part of a call. Its texts are JSON-escaped and never empty.
struct CallPart<'a> {
    fields: RawObject<'a>,
    index: Option<u64>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    arguments: Option<&'a str>,
}

impl<'a> CallPart<'a> {
    fn read(json: &'a str) -> Option<Self> {
        let fields = RawObject::parse(json).ok()?;
        let function = fields.object("function").or_else(|| fields.object("custom"));
        let text_of = |object: &RawObject<'a>, name: &str| {
            raw_text(object.get(name)?).filter(|text| !text.is_empty())
        };
        let index = index_of(&fields);
        let id = text_of(&fields, "id");
        let name = function.as_ref().and_then(|function| text_of(function, "name"));
        let arguments = function.as_ref().and_then(|function| text_of(function, "arguments"));
        Some(Self { fields, index, id, name, arguments })
    }
}

impl ToolCalls {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Returns the number of calls.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Returns the texts of the call at `position`; missing ones are empty.
    pub(crate) fn texts(&self, position: usize) -> CallTexts<'_> {
        let fields = self.calls.get(position).map(|call| &call.fields);
        let function = fields.and_then(|fields| fields.get("function"));
        let text = |name: &str| function.and_then(|function| function.field(name)?.text());
        CallTexts {
            id: fields.and_then(|fields| fields.text("id")).unwrap_or_default(),
            name: text("name").unwrap_or_default(),
            arguments: text("arguments").unwrap_or_default(),
        }
    }

    /// Merges the `tool_calls` of a delta.
    pub(crate) fn merge(&mut self, list: &str) -> Result<(), TooMany> {
        items(list).unwrap_or_default().into_iter().try_for_each(|part| self.add(part).map(drop))
    }

    /// Merges one part, and returns the position of its call.
    pub(crate) fn add(&mut self, json: &str) -> Result<Option<usize>, TooMany> {
        let Some(part) = CallPart::read(json) else { return Ok(None) };
        let position = match self.position_of(&part) {
            Some(position) => position,
            None => self.start(&part)?,
        };
        if let Some(id) = part.id {
            self.by_id.entry(id.to_owned()).or_insert(position);
        }
        let Some(call) = self.calls.get_mut(position) else { return Ok(None) };
        for (name, value) in part.fields.iter() {
            match name {
                "index" => {}
                // Some servers create a new id for every part.
                "id" => call.fields.set_missing(name, value),
                "function" => {
                    call.fields.merge(name, value, Rule::Delta)?;
                    call.fields.get_mut(name).map(Node::open);
                }
                _ => call.fields.merge(name, value, Rule::Delta)?,
            }
        }
        Ok(Some(position))
    }

    fn start(&mut self, part: &CallPart<'_>) -> Result<usize, TooMany> {
        let position = self.calls.len();
        if position == MAX_ENTRIES {
            return Err(TooMany);
        }
        let index = part.index.unwrap_or(position as u64);
        self.by_index.insert(index, position);
        self.calls.push(ToolCall { index, fields: Fields::default() });
        Ok(position)
    }

    /// Returns the position of the call that a part continues; `None` if it starts a new call.
    fn position_of(&self, part: &CallPart<'_>) -> Option<usize> {
        let by_id = part.id.and_then(|id| self.by_id.get(id).copied());
        let position = match (part.index, by_id) {
            (Some(index), by_id) => {
                // If several indexes share an id, the index decides.
                let same = by_id.filter(|position| self.calls[*position].index == index);
                same.or_else(|| self.by_index.get(&index).copied())?
            }
            (None, Some(position)) => return Some(position),
            (None, None) => self.calls.len().checked_sub(1)?,
        };
        let is_other = starts_another(&self.calls[position], part, by_id == Some(position));
        (!is_other).then_some(position)
    }

    /// Appends the calls as the value of `tool_calls`.
    pub(super) fn write(mut self, out: &mut String) {
        // Servers may start calls in any order of their indexes.
        self.calls.sort_by_key(|call| call.index);
        out.push('[');
        for (position, mut call) in self.calls.into_iter().enumerate() {
            if position > 0 {
                out.push(',');
            }
            call.complete();
            out.push('{');
            call.fields.write(out);
            out.push('}');
        }
        out.push(']');
    }
}

/// True if the part starts a new call: it has a name and a new id, or no id and the previous call is complete.
fn starts_another(call: &ToolCall, part: &CallPart<'_>, has_its_id: bool) -> bool {
    let (Some(name), false) = (part.name, has_its_id) else { return false };
    let id = call.fields.text("id").filter(|id| !id.is_empty());
    if let (Some(id), Some(other)) = (id, part.id) {
        return id != other;
    }
    // With an id and an index, the index has already decided that the part belongs to this call.
    if id.is_some() && part.index.is_some() {
        return false;
    }
    let function = call.fields.get("function");
    let text_of = |field: &str| function.and_then(|function| function.field(field)?.text());
    let arguments = text_of("arguments").unwrap_or_default();
    let last = arguments.bytes().rev().take(MAX_BLANKS).find(|byte| !byte.is_ascii_whitespace());
    let starts_anew = part.arguments.is_none_or(|arguments| arguments.starts_with('{'));
    match text_of("name") {
        Some(known) if known == name => last == Some(b'}') && starts_anew,
        Some(_) => !arguments.is_empty(),
        None => false,
    }
}

impl ToolCall {
    /// Adds the fields that SDKs require of a call and that the stream left out.
    fn complete(&mut self) {
        if let Some(Node::Object(function)) = self.fields.get_mut("function").map(Node::open) {
            let has_arguments = match function.get("arguments") {
                Some(Node::Raw(json)) => json == "\"\"" || !is_empty(json),
                Some(_) => true,
                None => false,
            };
            if !has_arguments {
                function.set("arguments", Node::Text(String::new()));
            }
            self.fields.set_missing("type", "\"function\"");
        }
    }
}
