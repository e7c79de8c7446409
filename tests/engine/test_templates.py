"""Chat templates rendered in Rust, against `jinja2` set up as the model files expect it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tabagent_engine import EngineError, render_template

from tests.gguf_fixtures import CHAT_TEMPLATE

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{% endif %}
"""

ALTERNATING = """{{ bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content.strip() + '\n\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system, turns = '', messages %}
{%- endif %}
{%- for turn in turns %}
    {%- if turn.role == 'user' -%}
        [INST] {{ (system if loop.first else '') ~ turn.content.strip() }} [/INST]
    {%- else -%}
        {{ ' ' ~ turn.content.rstrip() ~ eos_token }}
    {%- endif %}
{%- endfor %}"""

TOOLS = """{%- set ns = namespace(last=messages | length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- if message.role == 'user' %}
        {%- set ns.last = messages | length - 1 - loop.index0 %}{% set ns.found = true %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- macro line(role, text='') %}<{{ role | upper }}>{{ text }}</{{ role | upper }}>
{% endmacro %}
{%- for tool in tools or [] %}{{ line('tool', tool | tojson) }}{% endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- set content = content if content is string else content | join(',') %}
    {%- if '</think>' in content and loop.index0 < ns.last %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
    {{- line(message.role, content | replace('\t', ' ')) }}
{%- endfor %}
{{- 'found' if ns.found else 'none' }}{{ date | default('today') }}"""

CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello!"}],
    [
        {"role": "system", "content": '  Answer é€😀 <b>"briefly"</b> & well. '},
        {"role": "user", "content": "What\tflows?\n"},
        {"role": "assistant", "content": "<think>Hm.</think>\n\nTokens."},
        {"role": "user", "content": "{{ 7 * 7 }} {% raw %}"},
    ],
]

TOOL_LIST = [
    {"name": "wetter", "parameters": {"stadt": "Köln", "n": [1, 2.5, None, True], "q": "a'b"}}
]


def rendered_by_jinja2(template: str, **context: Any) -> str:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template).render(**context)


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=["one turn", "conversation"])
@pytest.mark.parametrize("template", [CHAT_TEMPLATE, CHATML, ALTERNATING, TOOLS])
def test_templates_render_as_in_python(
    template: str, messages: list[dict[str, Any]], add_generation_prompt: bool
) -> None:
    context: dict[str, Any] = {
        "add_generation_prompt": add_generation_prompt,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "tools": TOOL_LIST,
    }
    expected = rendered_by_jinja2(template, messages=messages, **context)
    assert render_template(template, messages, **context) == expected


def test_a_template_without_end_runs_out_of_fuel() -> None:
    endless = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
    with pytest.raises(EngineError) as refusal:
        render_template(endless, [])
    assert refusal.value.code in {"invalid_parameter", "gguf_unsupported"}


def test_a_template_that_does_not_parse_is_unsupported() -> None:
    with pytest.raises(EngineError) as refusal:
        render_template("{% for %}", [])
    assert refusal.value.code == "gguf_unsupported"


def test_a_template_may_refuse_messages_in_its_own_words() -> None:
    with pytest.raises(EngineError, match="no such role") as refusal:
        render_template("{{ raise_exception('no such role') }}", CONVERSATIONS[0])
    assert (refusal.value.code, refusal.value.param) == ("invalid_parameter", "messages")
