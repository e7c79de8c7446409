use std::time::Duration;

use serde_json::{Value, json};

use super::{CHATML, ChatTemplate, Limits, PLAIN, render};
use crate::error::EngineError;

/// Of the shape that Llama 3 models carry.
const LLAMA3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}\
    {% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
/// Of the shape that Mistral models carry.
const MISTRAL: &str = "{%- if messages[0]['role'] == 'system' -%}
    {%- set system_message = messages[0]['content'] -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{{- bos_token -}}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {%- if loop.last and system_message is defined -%}
            {{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' -}}
        {%- else -%}
            {{- '[INST] ' + message['content'] + '[/INST]' -}}
        {%- endif -%}
    {%- else -%}
        {{- ' ' + message['content'] + eos_token -}}
    {%- endif -%}
{%- endfor -%}";
/// Of the shape that Gemma models carry.
const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}\
    {% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}\
    {% else %}{% set role = message['role'] %}{% endif %}\
    {{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";
/// Of the shape that Qwen models carry: tools, namespaces, Python methods.
const QWEN: &str = r#"{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and message.content is string and not message.content.startswith('<tool') %}
        {%- set ns.last_query = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" and '</think>' in message.content %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role != "system" %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"#;

fn chat(turns: &[(&str, &str)]) -> Value {
    let messages: Vec<Value> = turns.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"messages": messages, "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "tools": null})
}

fn rendered(template: &str, context: &Value) -> String {
    render(template, context, Limits::default()).unwrap()
}

fn failure(template: &str, context: &Value) -> EngineError {
    render(template, context, Limits::default()).unwrap_err()
}

#[test]
fn the_fallbacks_render_every_role() {
    let context = chat(&[("system", "Be brief."), ("user", "Hi")]);
    assert_eq!(
        rendered(CHATML, &context),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(rendered(PLAIN, &context), "system: Be brief.\nuser: Hi\nassistant:");
}

#[test]
fn a_llama_3_template_renders() {
    assert_eq!(
        rendered(LLAMA3, &chat(&[("user", " Hi "), ("assistant", "Yo")])),
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nYo<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn a_mistral_template_renders_and_insists_on_turns() {
    assert_eq!(
        rendered(MISTRAL, &chat(&[("system", "S"), ("user", "A"), ("assistant", "B"), ("user", "C")])),
        "<s>[INST] A[/INST] B</s>[INST] S\n\nC[/INST]"
    );
    let error = failure(MISTRAL, &chat(&[("user", "A"), ("user", "B")]));
    assert_eq!((error.code(), error.param()), ("invalid_parameter", Some("messages")));
    assert!(error.to_string().starts_with("Conversation roles must alternate"), "{error}");
}

#[test]
fn a_gemma_template_renders_and_refuses_a_system_turn() {
    assert_eq!(
        rendered(GEMMA, &chat(&[("user", "A"), ("assistant", "B")])),
        "<s><start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n<start_of_turn>model\n"
    );
    assert!(failure(GEMMA, &chat(&[("system", "S")])).to_string().starts_with("System role not supported"));
}

#[test]
fn a_qwen_template_renders_tools_and_drops_old_thoughts() {
    let mut context = chat(&[("system", "S"), ("user", "A"), ("assistant", "<think>x</think>\nB")]);
    context["tools"] = json!([{"type": "function", "function": {"name": "f", "description": "a <b> & 'c'"}}]);
    context["enable_thinking"] = json!(false);
    assert_eq!(
        rendered(QWEN, &context),
        "<|im_start|>system\nS\n\n<tools>\n\
         {\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"a <b> & 'c'\"}}\n</tools><|im_end|>\n\
         <|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n\
         <|im_start|>assistant\n<think>\n\n</think>\n\n"
    );
}

#[test]
fn tojson_writes_what_python_writes() {
    let context = json!({"v": {"b": [1, 2.5, true, null], "a": {}, "é": "\u{1}\n\"<é😀>"}});
    let cases = [
        ("{{ v | tojson }}", r#"{"b": [1, 2.5, true, null], "a": {}, "é": "\u0001\n\"<é😀>"}"#),
        ("{{ v.a | tojson(indent=2) }}", "{}"),
        ("{{ v.b | tojson(indent=2) }}", "[\n  1,\n  2.5,\n  true,\n  null\n]"),
        ("{{ v.b | tojson(separators=(',', ':')) }}", "[1,2.5,true,null]"),
        ("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true) }}", r#"{"a": 2, "b": 1}"#),
        ("{{ 'é😀' | tojson(ensure_ascii=true) }}", r#""\u00e9\ud83d\ude00""#),
    ];
    for (template, expected) in cases {
        assert_eq!(rendered(template, &context), expected, "{template}");
    }
}

#[test]
fn generation_tags_mean_nothing() {
    let template = "{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}{% endfor %}";
    assert_eq!(rendered(template, &chat(&[("user", "A"), ("user", "B")])), "AB");
}

#[test]
fn strftime_now_tells_the_year() {
    let year: u32 = rendered("{{ strftime_now('%Y') }}", &json!({})).parse().unwrap();
    assert!(year >= 2025);
}

#[test]
fn a_template_that_does_not_parse_is_the_models_fault() {
    for source in ["{% if %}", "{{ 'open", "{% unknown_tag %}"] {
        assert_eq!(failure(source, &json!({})).code(), "gguf_unsupported");
    }
}

#[test]
fn a_template_too_long_is_refused() {
    let limits = Limits { source: 10, ..Limits::default() };
    assert_eq!(ChatTemplate::compile("more than ten bytes", limits).unwrap_err().code(), "gguf_unsupported");
}

#[test]
fn templates_that_never_end_are_stopped() {
    let hostile = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for a in range(99999) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set ns = namespace(s=[]) %}{% for a in range(99999) %}{% for b in range(99999) %}\
         {% set ns.s = [ns.s] %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s=[]) %}{% for a in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}",
    ];
    for template in hostile {
        assert_eq!(failure(template, &json!({})).code(), "invalid_parameter", "{template}");
    }
}

/// A list of lists that as text is larger than any memory, in a few instructions.
const EXPLODING: &str = "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(40) %}{% set ns.a = [ns.a, ns.a] %}\
    {% set ns.b = [ns.b, ns.b] %}{% endfor %}";

#[test]
fn what_would_not_fit_into_memory_is_not_made() {
    let hostile = [
        "{{ 'a' * 1000000000 }}",
        "{{ ('a' * 100000).replace('a', 'b' * 100000) }}",
        "{{ ('a' * 100000)|replace('a', 'b' * 100000) }}",
        "{{ ('x' * 100000).join(['a'] * 90000) }}",
        "{{ (['a' * 100000] * 100000)|join }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ ('a ' * 10000000).split(' ') }}",
        "{{ ([1] * 100000)|tojson(separators=('x' * 100000, 'y')) }}",
        "{{ (['x' * 1000000] * 100000)|tojson }}",
    ];
    for template in hostile {
        assert_eq!(failure(template, &json!({})).code(), "invalid_parameter", "{template}");
    }
    for end in [
        "{{ ns.a }}",
        "{% set x %}{{ ns.a }}{% endset %}",
        "{{ ns.a|string }}",
        "{{ ns.a|tojson }}",
        "{{ ns.a|upper }}",
        "{{ [ns.a]|join }}",
        "{{ ''.join(ns.a) }}",
        "{{ '{}'.format(ns.a) }}",
        "{{ '%s'|format(ns.a) }}",
        "{{ [ns.a, ns.b]|sort }}",
        "{{ [ns.a, ns.b]|unique|list }}",
        "{{ ns.a is eq(ns.b) }}",
        "{{ raise_exception(ns.a) }}",
    ] {
        let error = failure(&format!("{EXPLODING}{end}"), &json!({}));
        assert!(error.to_string().contains("out of fuel"), "{end}: {error}");
    }
}

#[test]
fn a_rendering_out_of_time_is_given_up_for_good() {
    let limits = Limits { time: Duration::from_millis(1), ..Limits::default() };
    // Comparing is not paid for by the item: this takes seconds.
    let source = EXPLODING.replace("40", "18") + "{{ ns.a == ns.b }}";
    let template = ChatTemplate::compile(&source, limits).unwrap();
    for _ in 0..2 {
        assert!(template.render(&json!({})).unwrap_err().to_string().contains("takes longer than 1ms"));
    }
}

#[test]
fn chains_without_end_compile_or_are_refused() {
    let chain = |start: &str, link: &str, bytes: usize| format!("{{{{ {start}{} }}}}", link.repeat(bytes / link.len()));
    for (start, link) in
        [("1", "+1"), ("''", "~''"), ("messages", ".a"), ("''", "|trim"), ("1", " is int"), ("", "not ")]
    {
        let source = chain(start, link, 250_000) + if start.is_empty() { "{{ 1" } else { "" };
        let outcome = ChatTemplate::compile(&source, Limits::default());
        assert!(outcome.is_ok() || outcome.is_err_and(|error| error.code() == "gguf_unsupported"), "{link}");
    }
}

#[test]
fn values_nested_in_a_loop_do_not_overflow_the_stack() {
    let template =
        "{% set ns = namespace(s=[]) %}{% for a in range(99999) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}";
    assert_eq!(rendered(template, &json!({})).len(), 2 * 100_000);
}

#[test]
fn output_is_limited() {
    let limits = Limits { output: 5, ..Limits::default() };
    assert_eq!(render("12345", &json!({}), limits).unwrap(), "12345");
    let error = render("{{ '123' }}{{ '456' }}", &json!({}), limits).unwrap_err();
    assert!(error.to_string().contains("longer than 5 bytes"), "{error}");
}

#[test]
fn templates_reach_neither_files_nor_other_templates() {
    for template in ["{% include 'x' %}", "{{ ''.__class__ }}{{ ''.__class__.__mro__ }}", "{% import 'os' as os %}"] {
        assert_eq!(failure(template, &json!({})).code(), "invalid_parameter", "{template}");
    }
}
