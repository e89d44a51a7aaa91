"""Language codes as the Hub takes them: ISO 639-1, -2 or -3; it refuses cards with others."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu
fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km
kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om
or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""

# Of the thousands of ISO 639-3 those that come up in multilingual corpora (FLORES, NTREX, Wikipedia); any other one
# stays in the card's text.
_THREE_LETTERS = """
ace acm acq aeb afr ajp aka als amh apc ara arb arg ars ary arz asm ast awa ayr azb aze azj bak bam ban bar bel bem ben bho
bjn bod bos bre bug bul cat ceb ces che chr chv cjk ckb cos crh csb cym dan deu dik div dsb dyu dzo ell eng epo est eus ewe
fao fas fij fil fin fon fra frr fry fur fuv gaz gla gle glg glk grc grn gsw guj hat hau haw heb hif hin hne hrv hsb hun hye
ibo ido ile ilo ina ind isl ita jam jav jpn kab kac kal kam kan kas kat kaz kbd kbp kea khk khm kik kin kir kmb kmr knc kon
kor krc kur lad lao lat lav lij lim lin lit lmo ltg ltz lua lug luo lus lvs lzh mag mai mal mar mdf mhr min mkd mlg mlt mni
mon mos mri mrj msa mwl mya myv mzn nan nap nde nds nep new nld nno nob npi nso nus nya oci ori ory oss pag pam pan pap pbt
pcd pcm pes plt pms pnb pol por prs pus que quy roh ron run rus sag sah san sat scn sco sgs shn sin slk slv sme smo sna snd
som sot spa sqi srd srn srp ssw stq sun swa swe swh szl tah tam taq tat tel tet tgk tgl tha tir ton tpi tsn tso tuk tum tur
twi tyv tzm udm uig ukr umb urd uzb uzn vec vep vie vls vol war wln wol wuu xal xho xmf ydd yid yor yue zea zha zho zsm zul
"""

_ACCEPTED = frozenset([*_TWO_LETTERS.split(), *_THREE_LETTERS.split(), "multilingual", "code"])
_SUBTAGS = re.compile(r"([A-Za-z]+)(?:[-_][A-Za-z0-9]+)*")


def hub_languages(names: Iterable[str]) -> list[str]:
    """The codes that the Hub accepts among names of languages, each once; others are left out.

    Args:
        names: As corpora are called: "en", "pt-BR" and "zho_Hant" count as "en", "pt" and "zho", "poems" as nothing.
    """
    found = [_code(name) for name in names]
    return list(dict.fromkeys(code for code in found if code is not None))


def _code(name: str) -> str | None:
    match = _SUBTAGS.fullmatch(name)
    code = match[1].lower() if match else ""
    return code if code in _ACCEPTED else None
