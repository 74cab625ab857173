"""Random streams of models, drawn from a seed: chat, text completions, messages.

Every stream is a list of blocks of server-sent events. They vary in these points: texts in several
scripts, with and without escapes, cut anywhere; several choices; logprobs; reasoning; refusals; tool calls,
in sequence or interleaved; usage at the end, in the last chunk or never; numbers of every size;
padding; comments and empty lines between the events; the three line
ends. `pieces` cuts the bytes anywhere, also inside a character.
"""

import base64
import json
from random import Random

WORDS = [
    *("the", " quick", "\n\n", ' "quoted" ', "\\", " {", "}", "\t", " über", "世界", "नमस्ते", "😀", "👩‍👩‍👧", "é"),
    *("", " ", "a" * 300, "\u2028", "\x7f", "<b>&amp;", "data: ", "[DONE]", "null", "1e400", "\x00"),
]
# SDKs read these members as floats, so they are written as floats.
FLOATS = [0.1 + 0.2, 1 / 3, -0.10000000149011612, 5e-324, 1.7976931348623157e308, -0.0]
NUMBERS = [*FLOATS, 2**53 + 1, 2**70, -1]


def text(chance, most=8):
    return "".join(chance.choice(WORDS) for _ in range(chance.randrange(1, most)))


def cut(chance, whole, most=6):
    """Cuts a text between code points, or inside of a surrogate pair; returns the parts."""
    parts, at = [], 0
    units = whole.encode("utf-16-le") if chance.random() < 0.05 else None
    size = len(units) // 2 if units else len(whole)
    while at < size:
        end = at + chance.randrange(1, most)
        if units:
            parts.append(units[2 * at : 2 * end].decode("utf-16-le", "surrogatepass"))
        else:
            parts.append(whole[at:end])
        at = end
    return parts or [""]


def written(chance, value):
    """Returns the value as JSON, in the style of one of several servers."""
    tight = {"separators": (",", ":")} if chance.random() < 0.7 else {}
    plain = json.dumps(value, ensure_ascii=False, **tight)
    has_halves = any("\ud800" <= character <= "\udfff" for character in plain)
    return json.dumps(value, **tight) if has_halves or chance.random() < 0.4 else plain


def logprobs(chance, token):
    one = lambda token: {
        "token": token,
        "logprob": chance.choice(FLOATS),
        "bytes": list(token.encode("utf-8", "replace")),
    }
    tops = [one(chance.choice(WORDS)) for _ in range(chance.randrange(3))]
    return {"content": [{**one(token), "top_logprobs": tops}], "refusal": None}


def said(chance):
    """Returns the parts of one choice: deltas, each with its siblings, and the finish reason."""
    kind = chance.choice(["text", "text", "logprobs", "reasoning", "refusal", "tools", "tools", "both"])
    parts = [({"role": "assistant", "content": chance.choice(["", None])}, {})]
    if kind == "reasoning":
        field = chance.choice(["reasoning", "reasoning_content"])
        parts += [({field: part}, {}) for part in cut(chance, text(chance))]
    if kind == "refusal":
        parts += [({"refusal": part}, {}) for part in cut(chance, text(chance))]
    elif kind != "tools":
        for part in cut(chance, text(chance, 20), chance.choice([2, 6, 40])):
            beside = {"logprobs": logprobs(chance, part)} if kind == "logprobs" else {}
            parts.append(({"content": part}, beside))
    if kind in ("tools", "both"):
        parts += calls(chance)
        return parts, "tool_calls"
    return parts, chance.choice(["stop", "length", "content_filter"])


def calls(chance):
    lines = []
    for index in range(chance.randrange(1, 4)):
        begun = {"name": f"tool_{index}", "arguments": chance.choice(["", "{"])}
        head = {"index": index, "id": f"call_{index}", "type": "function", "function": begun}
        arguments = json.dumps({"text": text(chance), "n": chance.choice(NUMBERS)})
        arguments = arguments[len(begun["arguments"]) :]
        rest = [{"index": index, "function": {"arguments": part}} for part in cut(chance, arguments, 20)]
        lines.append([head, *rest])
    if chance.random() < 0.3:  # All of them begin at once.
        first = [line.pop(0) for line in lines]
        turns = [({"tool_calls": first}, {})]
    else:
        turns = [({"tool_calls": [line.pop(0)]}, {}) for line in lines]
    while any(lines):
        line = chance.choice([line for line in lines if line])
        turns.append(({"tool_calls": [line.pop(0)]}, {}))
    return turns


def chat(seed):
    """Returns a chat stream."""
    chance = Random(seed)
    head = {"id": f"chatcmpl-{seed}", "object": "chat.completion.chunk", "created": seed, "model": "m"}
    if chance.random() < 0.5:
        head["system_fingerprint"] = chance.choice([None, "fp"])
    if chance.random() < 0.3:
        head["service_tier"] = "default"
    if chance.random() < 0.3:
        head["x_number"] = chance.choice(NUMBERS)
    ends_alone, has_nulls = chance.random() < 0.7, chance.random() < 0.7
    pads, usage = chance.random() < 0.2, chance.choice(["never", "apart", "last"])
    choices = [said(chance) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    lines = []
    for index, (parts, reason) in enumerate(choices):
        nulls = {"logprobs": None, "finish_reason": None} if has_nulls else {}
        line = [{"index": index, "delta": delta, **nulls, **beside} for delta, beside in parts]
        if ends_alone or "tool_calls" in parts[-1][0]:
            line.append({"index": index, "delta": {}, **nulls})
        line[-1]["finish_reason"] = reason
        lines.append(line)
    first = [line.pop(0) for line in lines]
    turns = [[one] for one in first]
    while any(lines):
        line = chance.choice([line for line in lines if line])
        turns.append([line.pop(0)])
    chunks = [{**head, "choices": turn} for turn in turns]
    counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "cost": 1 / 3}
    if usage == "apart":
        chunks.append({**head, "choices": [], "usage": counts})
    elif usage == "last":
        chunks[-1]["usage"] = counts
    if pads:
        for chunk in chunks:
            chunk["obfuscation"] = "x" * chance.randrange(9)
    return blocks(chance, [("", written(chance, chunk)) for chunk in chunks] + [("", "[DONE]")])


def completion(seed):
    """Returns the blocks of a text completion stream, and its choice."""
    chance = Random(seed)
    head = {"id": f"cmpl-{seed}", "object": "text_completion", "created": seed, "model": "m"}
    whole = text(chance, 20)
    counted = {"tokens": [], "token_logprobs": [], "text_offset": []}
    chunks = []
    for offset, part in enumerate(cut(chance, whole)):
        one = {"tokens": [part], "token_logprobs": [chance.choice(FLOATS)], "text_offset": [offset]}
        for name, values in one.items():
            counted[name] += values
        choice = {"index": 0, "text": part, "logprobs": one, "finish_reason": None}
        chunks.append({**head, "choices": [choice]})
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    choice = {"index": 0, "text": whole, "logprobs": counted, "finish_reason": "stop"}
    events = [("", written(chance, chunk)) for chunk in chunks] + [("", "[DONE]")]
    return blocks(chance, events), choice


def message(seed):
    """Returns a message stream."""
    chance = Random(seed)
    usage = {"input_tokens": 7, "cache_read_input_tokens": chance.choice([None, 2]), "output_tokens": 1}
    begun = {"id": f"msg_{seed}", "type": "message", "role": "assistant", "model": "m", "content": []}
    begun |= {"stop_reason": None, "stop_sequence": None, "usage": usage}
    events = [{"type": "message_start", "message": begun}]
    for index in range(chance.randrange(1, 4)):
        block, deltas = content(chance)
        about = {"index": index}
        events.append({"type": "content_block_start", **about, "content_block": block})
        events += [{"type": "content_block_delta", **about, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", **about})
    reason = chance.choice(["end_turn", "tool_use", "max_tokens", "stop_sequence"])
    stop = {"stop_reason": reason, "stop_sequence": "x" if reason == "stop_sequence" else None}
    counts = {"output_tokens": 9} | chance.choice([{}, {"input_tokens": 8}, {"input_tokens": None}])
    events.append({"type": "message_delta", "delta": stop, "usage": counts})
    events.append({"type": "message_stop"})
    for _ in range(chance.randrange(3)):
        events.insert(chance.randrange(1, len(events)), {"type": "ping"})
    return blocks(chance, [(event["type"], written(chance, event)) for event in events])


def content(chance):
    kind = chance.choice(["text", "cited", "thinking", "tool"])
    parts = cut(chance, text(chance, 20))
    if kind == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": part} for part in parts]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if kind == "tool":
        whole = json.dumps({"text": text(chance), "list": [1, {"n": chance.choice(NUMBERS)}], "z": None})
        if chance.random() < 0.3:  # The tokens were spent.
            whole = whole[: chance.randrange(len(whole))]
        parts = chance.choice([[], ["", *cut(chance, whole, 20)]])
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        return {"type": "tool_use", "id": "toolu_1", "name": "tool", "input": {}}, deltas
    deltas = [{"type": "text_delta", "text": part} for part in parts]
    if kind == "cited":
        place = {"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": "t"}
        place |= {"start_char_index": 0, "end_char_index": 1}
        deltas += [{"type": "citations_delta", "citation": place}] * chance.randrange(1, 3)
    return {"type": "text", "text": ""}, deltas


def blocks(chance, events):
    """Returns the events as blocks of one stream, with comments and blanks between them."""
    end = chance.choice(["\n", "\n", "\n", "\r\n", "\r"])
    noise = ["", "", "", "", f": alive{end}{end}", f":{end}", end, end + end]
    whole = []
    for name, data in events:
        named = f"event: {name}{end}" if name else ""
        space = "" if chance.random() < 0.1 else " "
        whole.append(f"{named}data:{space}{data}{end}{end}" + chance.choice(noise))
    return whole


def pieces(seed, blocks):
    """Returns the events of a script that sends these blocks in pieces of any size."""
    chance, whole, sent = Random(seed), "".join(blocks).encode(), []
    most = chance.choice([3, 60, 4000])
    most = max(most, len(whole) // 200)
    while whole:
        size = chance.randrange(1, most + 1)
        sent.append({"base64": base64.b64encode(whole[:size]).decode()})
        whole = whole[size:]
    return sent
