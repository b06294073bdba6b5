//! Templates of chats against what transformers makes of them: `python/golden/templates.py` writes the folder that
//! `ONDINE_TEMPLATES` names.

use std::collections::BTreeMap;

use ondine_language::template::{Chat, Now, Template};
use serde_json::{Value, json};

/// Templates that add texts to others which they mark as safe: jinja2 writes the former as HTML then, here they stay
/// what they are.
const ADDED_TO_SAFE: [&str; 1] = ["meetkai-functionary-medium-v3.1"];

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn real_templates_write_what_transformers_writes() {
    let Some(folder) = std::env::var_os("ONDINE_TEMPLATES") else {
        eprintln!("skipped: ONDINE_TEMPLATES names no folder");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let (mut wrong, mut right, mut lenient) = (Vec::new(), 0, 0);
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        if ADDED_TO_SAFE.contains(&&*name) {
            continue;
        }
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let template = match Template::new(golden["template"].as_str().unwrap()) {
            Ok(template) => template,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (number, case) in list(&golden["cases"]).iter().enumerate() {
            let options: BTreeMap<String, Value> = case["options"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let found = template.render(&Chat {
                messages: list(&case["messages"]),
                tools: list(&case["tools"]),
                answer: case["answer"] == true,
                begin: "<s>",
                end: "</s>",
                options: &options,
                now: Now::midday(2026, 3, 5),
            });
            match (case["text"].as_str(), found) {
                (Some(wanted), Ok(found)) if found == wanted => right += 1,
                (None, Err(_)) => right += 1,
                // Python refuses to go through `None`, or to write what has not been listed; a template that asks for
                // it gets what it would of an empty list.
                (None, Ok(_)) if case["error"].as_str().unwrap().starts_with("TypeError") => lenient += 1,
                (Some(wanted), Ok(found)) => {
                    let at = wanted.bytes().zip(found.bytes()).take_while(|(a, b)| a == b).count();
                    let from =
                        (0..=at).rev().find(|&at| wanted.is_char_boundary(at) && found.is_char_boundary(at)).unwrap();
                    let short = |text: &str| text[from..].chars().take(80).collect::<String>();
                    wrong.push(format!("{name} {number}: {:?}\n  wanted {:?}", short(&found), short(wanted)));
                }
                (Some(_), Err(error)) => wrong.push(format!("{name} {number}: {error}")),
                (None, Ok(_)) => wrong.push(format!("{name} {number}: rendered, wanted {}", case["error"])),
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, {right} right:\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("{right} conversations with {} templates; {lenient} that Python has no list for", paths.len());
}

fn render(source: &str, messages: &[Value]) -> Result<String, String> {
    let template = Template::new(source).map_err(|error| error.to_string())?;
    template
        .render(&Chat {
            messages,
            tools: &[],
            answer: true,
            begin: "<s>",
            end: "</s>",
            options: &[("thinking".to_owned(), json!(true))].into(),
            now: Now::midday(2024, 7, 26),
        })
        .map_err(|error| error.to_string())
}

#[test]
fn conversations_are_written_as_jinja_writes_them() {
    let messages = [json!({"role": "user", "content": " Hi "}), json!({"role": "assistant", "content": null})];
    let source = "\
{{ bos_token }}
{%- for message in messages %}
  {% generation %}
  {{- '[' ~ message.role ~ ']' + (message.content or '').strip() + ('!' if message is mapping else '') }}
  {% endgeneration %}
  {% if loop.last %}{% break %}{% endif %}
{% endfor %}
{{- tools }} {{ thinking }} {{ messages[0] | tojson(indent=1) }} {{ missing }} {{ strftime_now('%d %b %Y') }}{{ eos_token }}
";
    assert_eq!(
        render(source, &messages).unwrap(),
        "<s>[user]Hi!\n[assistant]!\nNone True {\n \"role\": \"user\",\n \"content\": \" Hi \"\n}  26 Jul 2024</s>"
    );
}

/// What jinja2 3.1 writes.
#[test]
fn values_have_the_methods_of_python() {
    for (source, wanted) in [
        ("{{ 'abcab'.removeprefix('ab') }}|{{ 'abcab'.removesuffix('ab') }}|{{ 'é-b-c'.index('b') }}", "cab|abc|2"),
        (
            "{{ 'a=b=c'.partition('=')[2] }}|{{ 'a=b=c'.rpartition('=')[0] }}|{{ 'abc'.rpartition('=')[2] }}",
            "b=c|a=b|abc",
        ),
        ("{{ 'a,b,,c'.rsplit(',', 1) }}|{{ ' a b  c '.rsplit() }}", "['a,b,', 'c']|['a', 'b', 'c']"),
        ("{{ ' a b  c '.rsplit(None, 1) }}|{{ 'a b'.rsplit(None, 5) }}", "[' a b', 'c']|['a', 'b']"),
        ("{{ '-7'.zfill(5) }}|{{ '12345'.zfill(3) }}|{{ 'ab'.center(5) }}", "-0007|12345|  ab "),
        ("{{ 'abc'.center(6, '*') }}|{{ 'a'.center(4,'*') }}|{{ 'x'.rjust(3, '.') }}", "*abc**|*a**|..x"),
        ("{{ 'aBc'.swapcase() }}|{{ 'x'.ljust(3) }}|", "AbC|x  |"),
        ("{% set d = {'a': 1} %}{% set c = d.copy() %}{{ c.a }}|{{ ['x', 'y'].index('y') }}", "1|1"),
        ("{{ 'abc' is sequence }}|{{ 3 is sequence }}|{{ {'a': 1} is sequence }}", "True|False|True"),
        ("{{ 'abc' | int }}|{{ '12' | int + 1 }}|{{ '3.9' | int }}|{{ 4.7 | int }}", "0|13|3|4"),
        ("{{ 'x' | int(5) }}|{{ true | int }}|{{ -2.5 | int }}", "5|1|-2"),
        ("a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc", "a\nb\nc"),
    ] {
        assert_eq!(render(source, &[]).unwrap(), wanted, "{source}");
    }
    for refused in ["{{ 'a'.index('b') }}", "{{ 'a'.rsplit('') }}", "{{ 'a'.zfill(99999999999) }}"] {
        assert!(render(refused, &[]).is_err(), "{refused}");
    }
}

#[test]
fn what_fails_says_where() {
    let said = |source| render(source, &[]).unwrap_err();
    assert_eq!(
        said("a\n{{ raise_exception('no system') }}"),
        "chat template, line 2: it refuses the conversation: no system"
    );
    assert!(said("a\nb\n{% if %}").starts_with("chat template, line 3: syntax error"));
    assert!(said("{{ a.b.c }}").starts_with("chat template, line 1: undefined value"));
    assert!(said("\n{{ messages | nonsense }}").starts_with("chat template, line 2: unknown filter"));
}

#[test]
fn what_does_not_end_is_an_error() {
    let steps = "it takes more steps than a conversation of this length needs";
    let loops = "{% macro f() %}{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}{% endmacro %}{{ f() }}";
    assert!(render(loops, &[]).unwrap_err().ends_with(steps));
    let endless = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    assert!(render(endless, &[]).is_err());
}
