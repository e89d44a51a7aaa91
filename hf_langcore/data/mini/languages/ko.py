"""Korean: particles chosen by the final consonant, counters, verb last, clauses joined by verb endings."""

from __future__ import annotations

from functools import cache

from hf_langcore.data.mini.grammar import Grammar, Slot, time_slots
from hf_langcore.data.mini.meaning import Clause, Meaning
from hf_langcore.data.mini.phrase import Phrase, adjunct, attach, word
from hf_langcore.data.mini.tables import phrases, table

# concept noun counter; what cannot be counted has no counter, people are never counted here
NOUNS = table("""
    woman 여자 -
    man 남자 -
    girl 소녀 -
    boy 소년 -
    teacher 선생님 -
    doctor 의사 -
    student 학생 -
    farmer 농부 -
    grandmother 할머니 -
    neighbour 이웃 -
    artist 화가 -
    merchant 상인 -
    cat 고양이 마리
    dog 개 마리
    bird 새 마리
    horse 말 마리
    book 책 권
    letter 편지 통
    newspaper 신문 부
    apple 사과 개
    flower 꽃 송이
    car 자동차 대
    house 집 채
    table 탁자 개
    shirt 셔츠 벌
    key 열쇠 개
    cup 컵 개
    picture 그림 점
    bicycle 자전거 대
    bag 가방 개
    fish 생선 마리
    egg 달걀 개
    bread 빵 -
    soup 수프 -
    rice 밥 -
    water 물 -
    milk 우유 -
    tea 차 -
""")

# concept form tag; all are adnominal forms of descriptive verbs except 새, which is a determiner
ADJECTIVES = table("""
    young 젊은 ADJ
    strong 힘센 ADJ
    kind 친절한 ADJ
    tired 지친 ADJ
    happy 행복한 ADJ
    small 작은 ADJ
    black 검은 ADJ
    white 하얀 ADJ
    big 큰 ADJ
    hungry 배고픈 ADJ
    new 새 DET
    old 오래된 ADJ
    interesting 흥미로운 ADJ
    red 빨간 ADJ
    fresh 신선한 ADJ
    beautiful 아름다운 ADJ
    delicious 맛있는 ADJ
    hot 뜨거운 ADJ
    cold 차가운 ADJ
    clean 깨끗한 ADJ
""")

# verb past-stem stem present-ending-form future-adnominal
VERBS = table("""
    read 읽었 읽 읽는다 읽을
    write 썼 쓰 쓴다 쓸
    buy 샀 사 산다 살
    sell 팔았 팔 판다 팔
    see 보았 보 본다 볼
    eat 먹었 먹 먹는다 먹을
    drink 마셨 마시 마신다 마실
    cook 요리했 요리하 요리한다 요리할
    cook_rice 지었 짓 짓는다 지을
    find 발견했 발견하 발견한다 발견할
    hide 숨겼 숨기 숨긴다 숨길
    draw 그렸 그리 그린다 그릴
    wash 닦았 닦 닦는다 닦을
    repair 고쳤 고치 고친다 고칠
    seek 찾았 찾 찾는다 찾을
    open 열었 열 연다 열
    feed 주었 주 준다 줄
""")

# Places end in 에; where something is done, not merely put, they get 서 as well.
PLACES = table("""
    market 시장에
    school 학교에
    garden 정원에
    kitchen 부엌에
    park 공원_근처에
    village 마을에
    city 도시에
    shop 가게에
    library 도서관에
    river 강가에
""")

TIMES = phrases("""
    yesterday 어제/ADV
    last_week 지난주에/NOUN
    this_morning 오늘/NOUN/nmod 아침에/NOUN
    every_day 매일/ADV
    every_morning 매일/ADV/advmod 아침/NOUN
    tomorrow 내일/ADV
    next_week 다음/NOUN/nmod 주에/NOUN
    this_evening 오늘/NOUN/nmod 저녁에/NOUN
""")

_NUMERALS = {"a": "한", "two": "두", "three": "세", "five": "다섯"}
_FOOD = ("obj", word("먹이를", "NOUN"))
_ENDINGS = {"": "다", "and": "고", "but": "지만", "because": "기"}
_FIRST_OF_SYLLABLES = 0xAC00
_FINALS = 28


def has_final_consonant(form: str) -> bool:
    """Whether the last syllable ends in a consonant (batchim)."""
    return (ord(form[-1]) - _FIRST_OF_SYLLABLES) % _FINALS != 0


def with_particle(form: str, after_consonant: str, after_vowel: str) -> str:
    """The noun with the one of two forms of a particle that its final sound asks for."""
    return form + (after_consonant if has_final_consonant(form) else after_vowel)


def _adjective(concept: str) -> Slot:
    if not concept:
        return []
    form, upos = ADJECTIVES[concept]
    return [("det" if upos == "DET" else "amod", word(form, upos))]


@cache
def subject(agent: str, plural: bool, adjective: str, home: str, particle: str) -> Phrase:  # noqa: FBT001
    """The noun phrase of an agent, as topic (은/는) or as subject (이/가)."""
    noun = NOUNS[agent][0] + ("들" if plural else "")
    marked = with_particle(noun, "은", "는") if particle == "topic" else with_particle(noun, "이", "가")
    resident: Slot = [("acl", attach(word("사는", "VERB"), [("obl", place(home, ""))]))] if home else []
    return attach(word(marked, "NOUN"), [*resident, *_adjective(adjective)])


@cache
def place(concept: str, ending: str) -> Phrase:
    """The place with its particle; "near the park" is a compound of two nouns."""
    *inside, last = (PLACES[concept][0] + ending).split()
    return attach(word(last, "NOUN"), [("nmod", word(noun, "NOUN")) for noun in inside])


@cache
def thing(patient: str, quantity: str, adjective: str, verb: str) -> Phrase:
    """The noun phrase of a patient, with its particle on the noun or on the counter."""
    noun, counter = NOUNS[patient]
    last = counter if quantity in _NUMERALS else noun
    marked = last + "에게" if verb == "feed" else with_particle(last, "을", "를")
    if quantity in _NUMERALS:
        number = attach(word(_NUMERALS[quantity], "NUM"), after=[("clf", word(marked, "NOUN"))])
        return attach(word(noun, "NOUN"), _adjective(adjective), [("nummod", number)])
    this: Slot = [("det", word("이", "DET"))] if quantity == "this" else []
    return attach(word(marked, "NOUN"), [*this, *_adjective(adjective)])


def _verb(clause: Clause, ending: str) -> tuple[Phrase, Slot]:
    """The verb with the ending that finishes it or joins it to what follows, and its auxiliary."""
    # Rice is not "cooked" but "made", with a verb that is used of houses too.
    verb = "cook_rice" if (clause.verb, clause.patient) == ("cook", "rice") else clause.verb
    past, stem, present, future = VERBS[verb]
    if clause.tense == "past":
        return word(past + ending, "VERB"), []
    if clause.tense == "present":
        return word(present if ending == "다" else stem + ending, "VERB"), []
    return word(future, "VERB"), [("aux", word("것이" + ending, "AUX"))]


def _clause(clause: Clause, *, timed: bool, particle: str, joint: str) -> Phrase:
    front, late = time_slots(clause, "" if timed else "untimed", TIMES)
    topic = particle or ("subject" if front else "topic")
    agent = subject(clause.agent, clause.plural, clause.agent_adjective, clause.home, topic)
    patient = thing(clause.patient, clause.quantity, clause.patient_adjective, clause.verb)
    # Hiding takes the place where the thing ends up, all other verbs the place of the action.
    where = [adjunct(place(clause.place, "" if clause.verb == "hide" else "서"))] if clause.place else []
    what = [("obl", patient), _FOOD] if clause.verb == "feed" else [("obj", patient)]
    verb, after = _verb(clause, _ENDINGS[joint])
    if joint == "because":
        after = [*after, ("mark", word("때문에", "SCONJ"))]
    return attach(verb, [*front, ("nsubj", agent), *late, *where, *what], after)


def clause_of(clause: Clause, role: str) -> Phrase:
    """The clause as a sentence of its own: time, subject, time, place, object, verb."""
    return _clause(clause, timed=not role, particle="", joint="")


def compose(meaning: Meaning) -> Phrase:
    """All clauses; each but the last carries the ending that joins it to the next.

    A reason precedes what it explains, so "A because B" comes out with B first.
    """
    order, joints = _surface_order(meaning)
    whole = _clause(order[-1], timed=len(order) == 1, particle="", joint="")
    earlier: Slot = []
    for number, (clause, joint) in enumerate(zip(order[:-1], joints, strict=True)):
        particle = "subject" if joint == "because" else ""
        said = _clause(clause, timed=number == 0, particle=particle, joint=joint)
        earlier.append(("advcl" if joint == "because" else "conj", said))
    return attach(whole, earlier)


def _surface_order(meaning: Meaning) -> tuple[list[Clause], list[str]]:
    order, joints = [meaning.clauses[0]], list[str]()
    for clause, connective in zip(meaning.clauses[1:], meaning.connectives, strict=True):
        if connective == "because":
            order.insert(len(order) - 1, clause)
            joints.append(connective)
        else:
            order.append(clause)
            joints.append(connective)
    return order, joints


GRAMMAR = Grammar(code="ko", clause=clause_of, connectives={}, compose=compose)
