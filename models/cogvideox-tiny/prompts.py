"""Prompts for the small world, in English and Chinese, in varied order and with synonyms."""

from __future__ import annotations

import random

from world import Attributes

EN_COLOURS = {
    "red": ["red"] * 4 + ["crimson", "scarlet"],
    "green": ["green"] * 4 + ["emerald", "lime"],
    "blue": ["blue"] * 4 + ["azure", "bright blue"],
    "yellow": ["yellow"] * 4 + ["golden", "lemon"],
    "purple": ["purple"] * 4 + ["violet", "magenta"],
    "orange": ["orange"] * 4 + ["tangerine"],
    "white": ["white"] * 4 + ["snowy", "pale"],
    "cyan": ["cyan"] * 4 + ["turquoise", "aqua", "teal"],
}
EN_SHAPES = {
    "circle": ["circle", "circle", "ball", "disc", "disk", "dot", "round shape", "sphere"],
    "square": ["square", "square", "box", "block", "square shape", "cube"],
    "triangle": ["triangle", "triangle", "triangular shape", "three-sided shape"],
    "star": ["star", "star", "five-pointed star", "star shape", "starlet"],
    None: ["object", "shape", "thing", "figure", "one"],
}
EN_MOVES = [
    "moving {d}",
    "moving to the {d}",
    "moves {d}",
    "moves to the {d}",
    "drifting {d}",
    "drifts to the {d}",
    "drifting to the {d}",
    "sliding {d}",
    "slides {d}",
    "gliding to the {d}",
    "going {d}",
    "travelling {d}",
    "floating {d}",
    "that moves {d}",
    "is moving {d}",
    "flying {d}",
    "heading {d}",
]
EN_VERTICAL = [
    "moving {d}",
    "moves {d}",
    "drifting {d}",
    "drifts {d}",
    "sliding {d}",
    "slides {d}",
    "going {d}",
    "travelling {d}",
    "floating {d}",
    "moving {d}wards",
    "moving {d}ward",
    "that moves {d}",
    "is moving {d}",
    "heading {d}",
]
EN_MOTIONS = {
    "right": [m.format(d="right") for m in EN_MOVES]
    + ["moving from left to right", "going from left to right", "moving rightwards"],
    "left": [m.format(d="left") for m in EN_MOVES]
    + ["moving from right to left", "going from right to left", "moving leftwards"],
    "up": [m.format(d="up") for m in EN_VERTICAL] + ["rising", "rises", "climbing", "ascending"],
    "down": [m.format(d="down") for m in EN_VERTICAL]
    + ["falling", "falls", "sinking", "descending", "dropping"],
    "growing": [
        "growing",
        "growing",
        "grows",
        "is growing",
        "getting bigger",
        "getting larger",
        "becoming larger",
        "expanding",
        "expands",
        "growing larger",
        "grows bigger",
        "swelling",
    ],
    "shrinking": [
        "shrinking",
        "shrinking",
        "shrinks",
        "is shrinking",
        "getting smaller",
        "becoming smaller",
        "contracting",
        "dwindling",
        "shrinks away",
    ],
    "still": [
        "standing still",
        "staying still",
        "not moving",
        "stationary",
        "motionless",
        "that does not move",
        "holding still",
        "resting",
        "is still",
        "stays in place",
        "static",
    ],
}
EN_BACKGROUNDS = {
    "black": ["black"],
    "gray": ["gray", "grey"],
    "navy": ["navy", "navy blue", "dark blue"],
    "brown": ["brown"],
}
EN_PLACES = [
    "on a {b} background",
    "on a {b} background",
    "over a {b} background",
    "on {b}",
    "over {b}",
    "against a {b} background",
    "against {b}",
    "on a plain {b} background",
    "in front of a {b} background",
    "on a {b} backdrop",
    "with a {b} background",
]
EN_ORDERS = [
    "{thing} {motion} {place}",
    "{thing} {motion} {place}",
    "{thing} {place} {motion}",
    "{place}, {thing} {motion}",
    "{thing}, {motion}, {place}",
    "{motion} {thing} {place}",
]
EN_OPENINGS = [""] * 8 + ["a video of", "a short clip of", "an animation of", "there is", "we see"]
EN_OPENINGS += ["please show", "generate", "video:", "a simple scene with", "a beautiful video of"]
EN_ARTICLES = ["a", "a", "a", "one", "the", "a single", "a small", "a big", "a bright", ""]

ZH_COLOURS = {
    "red": ["红色", "红色", "红", "大红色"],
    "green": ["绿色", "绿色", "绿", "翠绿色"],
    "blue": ["蓝色", "蓝色", "蓝", "亮蓝色"],
    "yellow": ["黄色", "黄色", "黄", "金黄色"],
    "purple": ["紫色", "紫色", "紫"],
    "orange": ["橙色", "橙色", "橘色", "橘黄色"],
    "white": ["白色", "白色", "白", "雪白色"],
    "cyan": ["青色", "青色", "青", "青绿色"],
}
ZH_SHAPES = {
    "circle": ["圆形", "圆", "圆形", "球", "圆球", "圆圈", "圆点", "小球"],
    "square": ["正方形", "方块", "方形", "正方形", "方格"],
    "triangle": ["三角形", "三角形", "三角"],
    "star": ["星星", "五角星", "星形", "星星"],
    None: ["物体", "图形", "东西", "形状"],
}
ZH_MOVES = [
    "向{d}移动",
    "往{d}移动",
    "向{d}移动",
    "向{d}漂移",
    "向{d}运动",
    "朝{d}移动",
    "向{d}滑动",
]
ZH_MOVES += ["正在向{d}移动", "往{d}走", "{d}移", "慢慢向{d}移动", "向{d}飞"]
ZH_MOTIONS = {
    "right": [m.format(d=d) for m in ZH_MOVES for d in ("右", "右边")]
    + ["从左向右移动", "从左到右移动"],
    "left": [m.format(d=d) for m in ZH_MOVES for d in ("左", "左边")]
    + ["从右向左移动", "从右到左移动"],
    "up": [m.format(d=d) for m in ZH_MOVES for d in ("上", "上方")] + ["上升", "正在上升", "升起"],
    "down": [m.format(d=d) for m in ZH_MOVES for d in ("下", "下方")]
    + ["下降", "下落", "落下", "下沉"],
    "growing": [
        "变大",
        "正在变大",
        "逐渐变大",
        "慢慢变大",
        "越来越大",
        "放大",
        "正在长大",
        "不断变大",
    ],
    "shrinking": [
        "变小",
        "正在变小",
        "逐渐变小",
        "慢慢变小",
        "越来越小",
        "缩小",
        "正在缩小",
        "不断缩小",
    ],
    "still": ["静止", "静止不动", "不动", "保持不动", "停在原地", "一动不动", "固定不动"],
}
ZH_BACKGROUNDS = {
    "black": ["黑色", "黑色", "黑"],
    "gray": ["灰色", "灰色", "灰"],
    "navy": ["深蓝色", "藏青色", "海军蓝", "藏蓝色"],
    "brown": ["棕色", "棕色", "褐色", "咖啡色"],
}
ZH_PLACES = ["{b}背景上", "在{b}背景上", "{b}的背景上", "在{b}的背景上", "{b}背景中", "{b}背景下"]
ZH_AFTER = ["背景是{b}", "背景为{b}", "{b}背景", "在{b}背景上"]
ZH_ARTICLES = ["一个", "一个", "一颗", "一只", "一枚", "这个", ""]
ZH_OPENINGS = [""] * 8 + ["视频：", "请生成", "画面中，", "有", "一段视频，", "动画："]


def write(attributes: Attributes, language: str, rng: random.Random) -> str:
    """A prompt that says what is not None, in ``en`` or ``zh``."""
    return (_english if language == "en" else _chinese)(attributes, rng)


def forget(attributes: Attributes, rng: random.Random) -> Attributes:
    """The same with some of it left open: everything is said in three of five prompts."""
    if rng.random() < 0.6:
        return attributes
    values = (attributes.colour, attributes.shape, attributes.motion, attributes.background)
    return Attributes(*(value if rng.random() < 0.6 else None for value in values))


def _english(attributes: Attributes, rng: random.Random) -> str:
    words = [rng.choice(EN_ARTICLES)]
    if attributes.colour:
        words.append(rng.choice(EN_COLOURS[attributes.colour]))
    words.append(rng.choice(EN_SHAPES[attributes.shape]))
    motion = rng.choice(EN_MOTIONS[attributes.motion]) if attributes.motion else ""
    place = ""
    if attributes.background:
        place = rng.choice(EN_PLACES).format(b=rng.choice(EN_BACKGROUNDS[attributes.background]))
    order = rng.choice(EN_ORDERS)
    text = order.format(thing=" ".join(words), motion=motion, place=place)
    text = " ".join(f"{rng.choice(EN_OPENINGS)} {text}".split()).replace(" ,", ",").strip(", ")
    if rng.random() < 0.3:
        text = text.capitalize()
    return text + rng.choice(["", "", "."])


def _chinese(attributes: Attributes, rng: random.Random) -> str:
    colour = rng.choice(ZH_COLOURS[attributes.colour]) if attributes.colour else ""
    if colour:
        colour += "的" if rng.random() < 0.5 else ""
    thing = rng.choice(ZH_ARTICLES) + colour + rng.choice(ZH_SHAPES[attributes.shape])
    motion = rng.choice(ZH_MOTIONS[attributes.motion]) if attributes.motion else ""
    comma = rng.choice(["", "", "，"])
    name = rng.choice(ZH_BACKGROUNDS[attributes.background]) if attributes.background else ""
    if not name:
        text = f"{thing}{comma if motion else ''}{motion}"
    elif rng.random() < 0.65:
        text = f"{rng.choice(ZH_PLACES).format(b=name)}{comma}{thing}{motion}"
    else:
        text = f"{thing}{motion}，{rng.choice(ZH_AFTER).format(b=name)}"
    return rng.choice(ZH_OPENINGS) + text + rng.choice(["", "", "。"])


_COMMON_ENGLISH = (
    "a an the this that these those it its is are was be being and or of in on at to from into by "
    "with without for as very really slowly quickly gently smoothly fast slow softly nice pretty "
    "beautiful lovely simple plain solid empty dark light bright pale big small large tiny huge "
    "little medium single alone video clip animation scene picture image film movie shot show "
    "shows showing please generate make create draw render give me i want would like see there we "
    "you can could must should frame frames second seconds screen side middle center centre "
    "across toward towards upward upwards downward downwards leftward leftwards rightward "
    "rightwards above below top bottom edge corner direction position size same constant slightly "
    "steadily gradually becomes become becoming gets getting turning staying remains remain "
    "remaining keep keeps kept moving move moves moved movement motion color colour colored "
    "coloured shaped shape background backdrop behind front over against only just one two three "
    "four five six seven eight 1 2 3 4 5 high low quality detailed clean minimal style flat 2d no "
    "not does do any other while as then now here "
)
COMMON_WORDS = _COMMON_ENGLISH.split()
COMMON_CHARACTERS = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说"
    "产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使"
    "点从业本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看"
    "原又么利比或但质气第向道命此变条只没结解问意建月公无系军很情者最立代想已通并提直题党程展五果料象员"
    "六七八九画面视频段请生成显示出现简单纯色漂亮美丽缓缓慢快速轻静动态屏幕央左右边侧"
)
PUNCTUATION = [*",.;:!?-_'\"()[]{}/\\&*+=%#@<>|~`", *"，。；：！？、“”‘’（）《》【】…·—"]
