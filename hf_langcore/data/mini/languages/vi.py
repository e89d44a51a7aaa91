"""Vietnamese: no inflection; classifiers, tense particles, adjectives and demonstratives after the noun."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.concepts import ANIMALS
from hf_langcore.data.mini.grammar import COMMA, Grammar, Slot, place_slot, time_slots
from hf_langcore.data.mini.meaning import Clause
from hf_langcore.data.mini.phrase import Phrase, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept classifier noun
NOUNS = table("""
    woman - người_phụ_nữ
    man - người_đàn_ông
    girl - cô_bé
    boy - cậu_bé
    teacher - giáo_viên
    doctor - bác_sĩ
    student - học_sinh
    farmer - nông_dân
    grandmother - bà_cụ
    neighbour - người_hàng_xóm
    artist - họa_sĩ
    merchant - người_bán_hàng
    cat con mèo
    dog con chó
    bird con chim
    horse con ngựa
    book quyển sách
    letter lá thư
    newspaper tờ báo
    apple quả táo
    flower bông hoa
    car chiếc ô_tô
    house ngôi nhà
    table cái bàn
    shirt chiếc áo_sơ_mi
    key chiếc chìa_khóa
    cup chiếc cốc
    picture bức tranh
    bicycle chiếc xe_đạp
    bag chiếc túi
    fish con cá
    egg quả trứng
    bread - bánh_mì
    soup - súp
    rice - cơm
    water - nước
    milk - sữa
    tea - trà
""")

ADJECTIVES = table("""
    young trẻ
    strong khỏe_mạnh
    kind tốt_bụng
    tired mệt_mỏi
    happy vui_vẻ
    small nhỏ
    black đen
    white trắng
    big to
    hungry đói
    new mới
    old cũ
    interesting thú_vị
    red đỏ
    fresh tươi
    beautiful đẹp
    delicious ngon
    hot nóng
    cold lạnh
    clean sạch
""")

VERBS = table("""
    read đọc
    write viết
    buy mua
    sell bán
    see nhìn_thấy
    eat ăn
    drink uống
    cook nấu
    find tìm_thấy
    hide giấu
    draw vẽ
    wash rửa
    repair sửa
    seek tìm
    open mở
    feed cho
""")

PLACES = phrases("""
    market ở/ADP/case chợ/NOUN
    school ở/ADP/case trường/NOUN
    garden trong/ADP/case vườn/NOUN
    kitchen trong/ADP/case bếp/NOUN
    park gần/ADP/case công_viên/NOUN
    village ở/ADP/case làng/NOUN
    city ở/ADP/case thành_phố/NOUN
    shop trong/ADP/case cửa_hàng/NOUN
    library trong/ADP/case thư_viện/NOUN
    river bên/ADP/case bờ/NOUN sông/NOUN/nmod
""")

TIMES = phrases("""
    yesterday hôm_qua/NOUN
    last_week tuần/NOUN trước/ADJ/amod
    this_morning sáng/NOUN nay/PRON/det
    every_day mỗi/DET/det ngày/NOUN
    every_morning mỗi/DET/det sáng/NOUN
    tomorrow ngày_mai/NOUN
    next_week tuần/NOUN sau/ADJ/amod
    this_evening tối/NOUN nay/PRON/det
""")

_NUMERALS = {"a": "một", "two": "hai", "three": "ba", "five": "năm"}
_TENSE_WORDS = {"past": "đã", "future": "sẽ"}
_EAT = ("xcomp", word("ăn", "VERB"))


def _classifier(concept: str) -> Slot:
    form = NOUNS[concept][0]
    return [("clf", word(form, "NOUN"))] if form else []


def _adjective(concept: str) -> Slot:
    return [("amod", word(ADJECTIVES[concept][0], "ADJ"))] if concept else []


def _plural_word(agent: str) -> str:
    # "các" goes with names of professions and the like, "những" with người ("person") and with animals.
    return "những" if agent in ANIMALS or NOUNS[agent][1].startswith("người") else "các"


@cache
def subject(agent: str, plural: bool, adjective: str, home: str) -> Phrase:  # noqa: FBT001
    """The noun phrase of an agent."""
    several: Slot = [("det", word(_plural_word(agent), "DET"))] if plural else []
    resident: Slot = [("acl:relcl", attach(word("sống", "VERB"), after=[("obl", PLACES[home])]))] if home else []
    noun = word(NOUNS[agent][1], "NOUN")
    return attach(noun, [*several, *_classifier(agent)], [*_adjective(adjective), *resident])


@cache
def thing(patient: str, quantity: str, adjective: str) -> Phrase:
    """The noun phrase of a patient: numeral, classifier, noun, adjective, demonstrative."""
    number: Slot = [("nummod", word(_NUMERALS[quantity], "NUM"))] if quantity in _NUMERALS else []
    this: Slot = [("det", word("này", "DET"))] if quantity == "this" else []
    noun = word(NOUNS[patient][1], "NOUN")
    return attach(noun, [*number, *_classifier(patient)], [*_adjective(adjective), *this])


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause: time, subject, tense, verb, object, place, or with the time last."""
    front, late = time_slots(clause, role, TIMES)
    comma: Slot = [("punct", COMMA)] if front else []
    tense: Slot = [("advmod", word(_TENSE_WORDS[clause.tense], "ADV"))] if clause.tense in _TENSE_WORDS else []
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective)
    # To feed is "to give ... to eat", around the object.
    feeding: Slot = [_EAT] if clause.verb == "feed" else []
    after = [("obj", patient), *feeding, *place_slot(clause, PLACES), *late]
    return attach(word(VERBS[clause.verb][0], "VERB"), [*front, *comma, ("nsubj", agent), *tense], after)


GRAMMAR = Grammar(
    code="vi",
    clause=clause_of,
    connectives={"and": word("và", "CCONJ"), "but": word("nhưng", "CCONJ"), "because": word("vì", "SCONJ")},
    with_comma=frozenset({"but"}),
)
