"""What a small demonstration checkpoint can draw: words to choose from, and what it can't."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WordGroup:
    """Words of one kind, of which a prompt has one."""

    name: str  # as shown, such as ``Colours``
    words: tuple[str, ...]
    found: re.Pattern[str]  # where a prompt says something of this kind, synonyms too
    phrase: str = "{}"  # how a word is put where nothing of this kind was found
    before: str = ""  # name of the group in front of whose words it is put
    after: str = ""  # name of the group behind whose words it is put
    first: bool = False  # whether it is put in front of everything else, where neither is there


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that the checkpoint can't draw, though it knows the words."""

    sentence: str  # with ``{}`` for what was found
    pattern: str = ""  # what is found
    alternatives: tuple[str, ...] = ()  # or two of these
    besides: str = ""  # what isn't looked at

    def find(self, text: str) -> str:
        """The sentence, if a prompt in lower case asks for it; else empty."""
        if self.besides:
            text = re.sub(self.besides, ";", text)
        if self.pattern:
            match = re.search(self.pattern, text)
            found = [next(filter(None, match.groups()))] if match else []
        else:
            matches = (re.search(pattern, text) for pattern in self.alternatives)
            found = sorted(matches := [match for match in matches if match], key=re.Match.start)
            found = [match[0] for match in found] if len(matches) > 1 else []
        if not found:
            return ""
        *first, last = (f"'{words}'" for words in found)
        return self.sentence.format(" or ".join(filter(None, (", ".join(first), last))))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a checkpoint that was trained on few things knows."""

    sentence: str
    groups: tuple[WordGroup, ...]
    limits: tuple[Limit, ...]

    def cannot(self, prompt: str) -> Iterator[str]:
        """A sentence for each thing that a prompt asks for and the checkpoint can't draw."""
        text = " ".join(prompt.lower().split())
        return filter(None, (limit.find(text) for limit in self.limits))

    def with_word(self, prompt: str, name: str, word: str) -> str:
        """The prompt with a word of a group, in place of another of that group if there is one.

        Raises:
            ValueError: if there is no such group, or it has no such word.
        """
        group = next((group for group in self.groups if group.name == name), None)
        if group is None or word not in group.words:
            raise ValueError(f"is no word of {name!r}")
        match = group.found.search(prompt)
        if match:
            start, end = match.span("word")
            return _with_articles(prompt[:start] + word + prompt[end:])
        phrase, text = group.phrase.format(word), prompt.strip()
        if (at := self._place(text, group.before)) is not None:
            return _with_articles(f"{text[: at.start('word')]}{phrase} {text[at.start('word') :]}")
        if (at := self._place(text, group.after)) is not None:
            return _with_articles(f"{text[: at.end('word')]} {phrase}{text[at.end('word') :]}")
        parts = ("a", phrase, text) if group.first else (text, phrase)
        return _with_articles(" ".join(filter(None, parts)))

    def _place(self, text: str, name: str) -> re.Match[str] | None:
        """Where a text has a word of the group of that name."""
        group = next((group for group in self.groups if group.name == name), None)
        return group.found.search(text) if group else None


def _with_articles(text: str) -> str:
    """``a orange`` and ``an red`` are made right."""
    text = re.sub(r"\b([Aa]) (?=orange\b)", r"\1n ", text)
    return re.sub(r"\b([Aa])n (?=[bcgprtwy])", r"\1 ", text)


_COLOUR = (
    "red|crimson|scarlet|green|emerald|lime|blue|azure|yellow|golden|lemon|purple|violet|magenta|"
    "orange|tangerine|white|snowy|pale|cyan|turquoise|aqua|teal"
)
_DARK = "navy blue|dark blue|black|gr[ae]y|navy|brown"
_SHAPES = (
    r"\b(?:circle|ball|dis[ck]|dot|sphere)s?\b|[圆球]",
    r"\b(?:(?:square|block|cube)s?|box(?:es)?)\b|方[形块格]",
    r"\b(?:triangle|triangular|three-sided)s?\b|三角",
    r"\bstar(?:let)?s?\b|星",
)
_SHAPE = (
    "(?:circle|ball|disc|disk|dot|sphere|square|block|cube|box|triangle|star|starlet|object|shape|"
    "thing|figure)(?:e?s)?"
)
_THING = r"(?:圆|球|正?方[形块格]|三角|五角星|星|物体|图形)"
_ADJECTIVES = r"(?:(?:small|big|large|tiny|huge|little|bright|single|round|plain) )*"
_GROUND = "(?:background|backdrop)"
_MOVE = (
    r"(?:moving|moves|drifting|drifts|sliding|slides|gliding|going|travelling|floating|flying|"
    r"heading)"
)
_STILL = "standing still|staying still|holding still|not moving|stationary|motionless|static"
_GROWING = "growing|grows|expanding|expands|swelling|getting (?:bigger|larger)|becoming larger"
_SHRINKING = "shrinking|shrinks|contracting|dwindling|(?:getting|becoming) smaller"
_UP, _DOWN = "rising|rises|climbing|ascending", "falling|falls|sinking|descending|dropping"
_MOTION = (
    rf"{_MOVE} from (?:left to right|right to left)|"
    rf"{_MOVE} (?:to the )?(?:right|left|up|down)(?:wards?)?|"
    rf"{_STILL}|{_GROWING}|{_SHRINKING}|{_UP}|{_DOWN}"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


SHAPES = Demonstration(
    sentence="a small demonstration model: it draws one coloured shape that moves on a plain "
    "background, and nothing else",
    groups=(
        WordGroup(
            "Colours",
            ("red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"),
            _words(rf"(?<!dark )(?<!navy )\b(?P<word>{_COLOUR})\b(?! (?:\w+ )?{_GROUND})"),
            before="Shapes",
            first=True,
        ),
        WordGroup(
            "Shapes",
            ("circle", "square", "triangle", "star"),
            _words(
                r"\b(?P<word>circle|ball|disc|disk|dot|sphere|square|block|cube|box|triangle|"
                r"star|starlet)\b"
            ),
            after="Colours",
            first=True,
        ),
        WordGroup(
            "Motions",
            (
                "moving right",
                "moving left",
                "moving up",
                "moving down",
                "growing",
                "shrinking",
                "standing still",
            ),
            _words(rf"\b(?P<word>{_MOTION})\b"),
        ),
        WordGroup(
            "Backgrounds",
            ("black", "gray", "navy", "brown"),
            _words(rf"\b(?P<word>{_DARK}|{_COLOUR})\b(?= (?:\w+ )?{_GROUND})"),
            phrase="on a {} background",
        ),
    ),
    limits=(
        Limit(
            "{} is a colour of the shape only: backgrounds are black, gray, navy or brown",
            rf"(?<!dark )(?<!navy )\b({_COLOUR}) (?:\w+ )?{_GROUND}|"
            rf"\b(?:on|over|against) ({_COLOUR})(?: *[.,;]|$)|"
            rf"\b{_GROUND} (?:is|in|of) ({_COLOUR})\b|"
            r"(?<![深藏军])([红绿蓝黄紫橙橘白青])色?的?背景|背景[是为]([红绿蓝黄紫橙橘白青])",
        ),
        Limit(
            "{} is a colour of backgrounds only: shapes are red, green, blue, yellow, purple, "
            "orange, white or cyan",
            rf"\b({_DARK}) {_ADJECTIVES}{_SHAPE}\b|"
            rf"(黑|灰|深蓝|藏青|藏蓝|海军蓝|棕|褐|咖啡)色?的?{_THING}",
        ),
        Limit("it draws one shape: {}, or a mixture", alternatives=_SHAPES),
        Limit(
            "it draws one shape, whatever the number: {}",
            rf"\b((?:two|three|four|five|six|seven|eight|many|several|[2-8]) "
            rf"(?!pointed|sided)(?:\w+ ){{0,2}}?{_SHAPE})\b|([两二三四五六七八几][个颗只枚])",
        ),
        Limit(
            "the shape has one colour: {}, or a mixture",
            alternatives=(
                r"\b(?:red|crimson|scarlet)\b|红",
                r"\b(?:green|emerald|lime)\b|绿",
                r"\b(?:blue|azure)\b|蓝",
                r"\b(?:yellow|golden|lemon)\b|黄",
                r"\b(?:purple|violet|magenta)\b|紫",
                r"\b(?:orange|tangerine)\b|[橙橘]",
                r"\b(?:white|snowy)\b|白",
                r"\b(?:cyan|turquoise|aqua|teal)\b|青",
            ),
            besides=rf"\b(?:\w+ )?(?:{_COLOUR}|{_DARK}) (?:\w+ )?{_GROUND}|dark blue|navy blue|"
            rf"\b(?:on|over|against) (?:{_COLOUR})(?: *[.,;]|$)|\b{_GROUND} (?:is|in|of) \w+|"
            r"深蓝|藏青|藏蓝|海军蓝|橘黄|青绿|翠绿|金黄|.{1,2}色?的?背景|背景[是为].{1,3}",
        ),
        Limit(
            "it shows one motion: {}, or a mixture",
            alternatives=(
                r"\bright(?:wards?)?\b|[向往朝]右",
                r"\bleft(?:wards?)?\b|[向往朝]左",
                rf"\b(?:up(?:wards?)?|{_UP})\b|[向往朝]上|上升|升起",
                rf"\b(?:down(?:wards?)?|{_DOWN})\b|[向往朝]下|下[降落沉]|落下",
                rf"\b(?:{_GROWING})\b|变大|放大|越来越大",
                rf"\b(?:{_SHRINKING})\b|变小|缩小|越来越小",
                rf"\b(?:{_STILL})\b|静止|不动",
            ),
            besides=r"\bfrom (?:left to|right to|the)\b|\b(?:on|at) the (?:left|right)\b",
        ),
        Limit(
            "where the shape is can't be chosen: {} is ignored",
            r"\b((?:in|at|on|near) the (?:\w+ )?(?:middle|center|centre|corner|top|bottom|edge|"
            r"left|right|side))\b",
        ),
        Limit(
            "size and speed can't be chosen: {} is ignored",
            rf"\b(small|big|large|tiny|huge|little) (?:\w+ ){{0,2}}?{_SHAPE}\b|"
            r"\b(slowly|quickly|fast|slow)\b",
        ),
        Limit("it can't turn a shape: {} is ignored", r"\b(turning)\b"),
        Limit(
            "it doesn't read {} as a denial: say what to show, or use the negative prompt",
            r"\b((?:no|without|not) (?!mov)(?:an? |any )?\w+)|(不要|没有)",
        ),
    ),
)
"""Of ``models/cogvideox-tiny``: see its ``world.py`` and ``prompts.py``."""
