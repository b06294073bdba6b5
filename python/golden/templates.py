"""What transformers makes of conversations with templates of chats, for the tests of the Rust renderer.

    python templates.py TEMPLATES OUT

TEMPLATES is a folder of `*.jinja`, such as `models/templates` of llama.cpp. For each, OUT/NAME.json holds the `template`
and for every conversation either the `text` or the `error` that it ends with.
"""
import argparse
import datetime
import json
from pathlib import Path

import transformers.utils.chat_template_utils as chat_template

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather at a place — \"now\" or <later>.",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "The city's name"},
            "days": {"type": "integer", "description": "How far ahead", "enum": [1, 3, 7], "default": 1},
            "units": {"type": ["string", "null"]},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}}}},
        "return": {"type": "string", "description": "a report"}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {
            "a": {"type": "number", "description": "First"}, "b": {"type": "array", "items": {"type": "number"}}},
            "required": ["a", "b"]}}},
]
CALL = {"id": "call0abcd", "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Zürich \"Alt\"", "days": 3, "where": {"lat": 47.4, "on": True}}}}
OTHER = {"id": "call1abcd", "type": "function", "function": {"name": "add", "arguments": {"a": 1e-7, "b": [1, 2.5]}}}
SYSTEM = {"role": "system", "content": "  You are <b>kind</b> & brief.\n"}
USER = {"role": "user", "content": " What's 1 + 1 in 日本語?\n"}
ANSWER = {"role": "assistant", "content": "It's 2. "}
THOUGHT = {"role": "assistant", "content": "<think>\nSimple.\n</think>\n\nIt's two."}
REASONED = {"role": "assistant", "reasoning_content": "One and one.", "content": "Two."}
AGAIN = {"role": "user", "content": "Thanks! And 2 + 2?"}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
BOTH = {"role": "assistant", "content": None, "tool_calls": [CALL, OTHER]}
RESULT = {"role": "tool", "tool_call_id": "call0abcd", "name": "get_weather", "content": "{\"temperature\": 21.5}"}
SUM = {"role": "tool", "tool_call_id": "call1abcd", "name": "add", "content": "3.5"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}]}

CONVERSATIONS = [
    dict(messages=[USER]),
    dict(messages=[USER], answer=False),
    dict(messages=[SYSTEM, USER]),
    dict(messages=[SYSTEM, USER, ANSWER, AGAIN]),
    dict(messages=[USER, ANSWER, AGAIN], answer=False),
    dict(messages=[SYSTEM, USER, THOUGHT, AGAIN]),
    dict(messages=[USER, REASONED, AGAIN]),
    dict(messages=[SYSTEM, USER, ANSWER], answer=False),
    dict(messages=[USER], tools=TOOLS),
    dict(messages=[SYSTEM, USER], tools=TOOLS),
    dict(messages=[SYSTEM, USER, CALLS, RESULT], tools=TOOLS),
    dict(messages=[USER, CALLS, RESULT, ANSWER, AGAIN], tools=TOOLS),
    dict(messages=[USER, BOTH, RESULT, SUM], tools=TOOLS),
    dict(messages=[USER, CALLS], tools=TOOLS, answer=False),
    dict(messages=[PARTS]),
    dict(messages=[SYSTEM, PARTS, ANSWER, USER]),
    dict(messages=[USER], options=dict(enable_thinking=False)),
    dict(messages=[SYSTEM, USER], tools=TOOLS, options=dict(enable_thinking=True, thinking=True, reasoning_effort="low")),
    dict(messages=[USER, USER]),
    dict(messages=[]),
]


class Midday(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 3, 5, 12, 0, 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("templates", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chat_template.datetime = Midday
    for path in sorted(arguments.templates.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        cases = []
        for conversation in CONVERSATIONS:
            case = dict(messages=conversation["messages"], tools=conversation.get("tools", []),
                        answer=conversation.get("answer", True), options=conversation.get("options", {}))
            try:
                compiled = chat_template._compile_jinja_template(template)
                case["text"] = compiled.render(
                    messages=json.loads(json.dumps(case["messages"])), tools=case["tools"] or None, documents=None,
                    add_generation_prompt=case["answer"], bos_token="<s>", eos_token="</s>", **case["options"])
            except Exception as error:
                case["error"] = f"{type(error).__name__}: {error}"
            cases.append(case)
        found = dict(template=template, cases=cases)
        (arguments.out / f"{path.stem}.json").write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
        print(path.stem, sum("text" in case for case in cases), "of", len(cases))


if __name__ == "__main__":
    main()
