"""Chinese: classifiers, aspect and modal markers instead of inflection, everything before the noun."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import PEOPLE
from hf_langcore.data.mini.grammar import Grammar, Slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept noun classifier; masses and people are never counted here
NOUNS = table("""
    woman 女人 -
    man 男人 -
    girl 女孩 -
    boy 男孩 -
    teacher 老师 -
    doctor 医生 -
    student 学生 -
    farmer 农民 -
    grandmother 奶奶 -
    neighbour 邻居 -
    artist 画家 -
    merchant 商人 -
    cat 猫 只
    dog 狗 只
    bird 鸟 只
    horse 马 匹
    book 书 本
    letter 信 封
    newspaper 报纸 份
    apple 苹果 个
    flower 花 朵
    car 汽车 辆
    house 房子 座
    table 桌子 张
    shirt 衬衫 件
    key 钥匙 把
    cup 杯子 个
    picture 画 幅
    bicycle 自行车 辆
    bag 包 个
    fish 鱼 条
    egg 鸡蛋 个
    bread 面包 些
    soup 汤 些
    rice 米饭 些
    water 水 些
    milk 牛奶 些
    tea 茶 些
""")

# concept form; longer ones need 的 before the noun
ADJECTIVES = table("""
    young 年轻
    strong 强壮
    kind 善良
    tired 疲惫
    happy 快乐
    small 小
    black 黑
    white 白
    big 大
    hungry 饥饿
    new 新
    old 旧
    interesting 有趣
    red 红色
    fresh 新鲜
    beautiful 漂亮
    delicious 美味
    hot 热
    cold 冷
    clean 干净
""")

# verb form completion; "-" where a finished action is not marked
VERBS = table("""
    read 读 了
    write 写 了
    buy 买 了
    sell 卖 了
    see 看见 了
    eat 吃 了
    drink 喝 了
    cook 煮 了
    find 找到 了
    hide 藏 了
    draw 画 了
    wash 洗 了
    repair 修理 了
    seek 寻找 -
    open 打开 了
    feed 喂 了
""")

PLACES = phrases("""
    market 在/ADP/case 市场/NOUN
    school 在/ADP/case 学校/NOUN
    garden 在/ADP/case 花园/NOUN 里/ADP/case
    kitchen 在/ADP/case 厨房/NOUN 里/ADP/case
    park 在/ADP/case 公园/NOUN 附近/ADP/case
    village 在/ADP/case 村子/NOUN 里/ADP/case
    city 在/ADP/case 城市/NOUN 里/ADP/case
    shop 在/ADP/case 商店/NOUN 里/ADP/case
    library 在/ADP/case 图书馆/NOUN
    river 在/ADP/case 河边/NOUN
""")

TIMES = phrases("""
    yesterday 昨天/NOUN
    last_week 上周/NOUN
    this_morning 今天/NOUN/nmod 早上/NOUN
    every_day 每天/NOUN
    every_morning 每天/NOUN/nmod 早上/NOUN
    tomorrow 明天/NOUN
    next_week 下周/NOUN
    this_evening 今天/NOUN/nmod 晚上/NOUN
""")

_NUMERALS = {"a": "一", "two": "两", "three": "三", "five": "五"}
_COMMA = word("，", "PUNCT", joins_left=True)
_DE = ("mark", word("的", "PART"))
_LIVE = word("住", "VERB")


def _adjective(concept: str) -> Slot:
    if not concept:
        return []
    form = ADJECTIVES[concept][0]
    return [("amod", attach(word(form, "ADJ"), after=[_DE] if len(form) > 1 else []))]


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The noun phrase of an agent; people get the plural suffix, animals a plural demonstrative."""
    is_person = agent in PEOPLE
    noun = NOUNS[agent][0] + ("们" if plural and is_person else "")
    those: Slot = [] if is_person or not plural else [("det", _determined("那", "些"))]
    resident: Slot = [("acl:relcl", attach(_LIVE, after=[("obl", PLACES[home]), _DE]))] if home else []
    return attach(word(noun, "NOUN"), [*those, *resident, *_adjective(adjective)])


def _determined(determiner: str, classifier: str) -> Phrase:
    return attach(word(determiner, "DET"), after=[("clf", word(classifier, "NOUN"))])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient with its classifier."""
    noun, classifier = NOUNS[patient]
    count: Slot = []
    if quantity in _NUMERALS:
        numeral = attach(word(_NUMERALS[quantity], "NUM"), after=[("clf", word(classifier, "NOUN"))])
        count = [("nummod", numeral)]
    elif quantity == "this":
        count = [("det", _determined("这", classifier))]
    return attach(word(noun, "NOUN"), [*count, *_adjective(adjective)])


def _aspect(clause: Clause) -> tuple[Slot, Slot]:
    """The modal verb before the place and the aspect marker after the verb."""
    if clause.tense == "future":
        return [("aux", word("会", "AUX"))], []
    marker = VERBS[clause.verb][1]
    return [], ([("aux", word(marker, "AUX"))] if clause.tense == "past" and marker else [])


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, time, modal, place, verb, aspect, object."""
    front, late = time_slots(clause, role, TIMES)
    # Without a comma the time would be read into the relative clause that opens the subject.
    comma: Slot = [("punct", _COMMA)] if front and clause.home else []
    modal, aspect = _aspect(clause)
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective)
    before = [*front, *comma, ("nsubj", agent), *late, *modal, *place_slot(clause, PLACES)]
    return attach(word(VERBS[clause.verb][0], "VERB"), before, [*aspect, ("obj", patient)])


GRAMMAR = Grammar(
    code="zh",
    clause=clause_of,
    connectives={"and": word("而", "CCONJ"), "but": word("但是", "CCONJ"), "because": word("因为", "SCONJ")},
    stop="。",
    comma=_COMMA,
    spaced=False,
)
