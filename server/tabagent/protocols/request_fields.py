"""Request fields that every dialect takes, and their way into the domain's types."""

from __future__ import annotations

from msgspec import Struct

from tabagent.core.requests import SamplingParams

from .wire import invalid, not_supported

__all__ = ["ContentPart", "GenerationFields", "text_of"]


class GenerationFields(Struct, kw_only=True):
    """Fields that every dialect takes, with llama-server's names for what OpenAI lacks.

    An absent or null field takes the model's default.
    """

    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logit_bias: dict[int, float] | list[tuple[int, float | bool]] | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None

    def sampling(self) -> SamplingParams:
        """Return the checked sampling parameters.

        :raises RequestError: `invalid_parameter`, the field in `param`.
        """
        return SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repeat_penalty=self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            logit_bias=_logit_bias(self.logit_bias),
            ignore_eos=bool(self.ignore_eos),
        )

    def stop_strings(self) -> tuple[str, ...]:
        """Return the stop strings, which may be given as one string."""
        if isinstance(self.stop, str):
            return (self.stop,)
        return tuple(self.stop or ())


def _logit_bias(
    bias: dict[int, float] | list[tuple[int, float | bool]] | None,
) -> dict[int, float] | None:
    """Return OpenAI's mapping; llama-server's pairs say `false` for never."""
    if not isinstance(bias, list):
        return bias
    pairs: dict[int, float] = {}
    for token, value in bias:
        if value is True:
            raise invalid("logit_bias", "a bias is a number, or false to forbid the token")
        pairs[token] = -1000.0 if value is False else value
    return pairs


class ContentPart(Struct):
    """One part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None


_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_MEDIA_PARTS = frozenset(
    {
        "audio",
        "file",
        "image",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "output_audio",
        "video_url",
    }
)


def text_of(content: str | list[ContentPart] | None, param: str) -> str:
    """Return the text of a message's content; parts are joined without a separator.

    :raises RequestError: `not_supported` for images, audio and files; `invalid_parameter` for
        parts that nobody knows.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for index, part in enumerate(content):
        place = f"{param}[{index}]"
        if part.type in _MEDIA_PARTS:
            raise not_supported(place, f"{part.type!r} content is not supported, only text")
        text = part.refusal if part.type == "refusal" else part.text
        if part.type != "refusal" and part.type not in _TEXT_PARTS:
            raise invalid(f"{place}.type", f"unknown content type {part.type!r}")
        if text is None:
            raise invalid(place, "the text is missing")
        texts.append(text)
    return "".join(texts)
