"""The grammars by language code."""

from __future__ import annotations

from hf_langcore.data.mini.grammar import Grammar
from hf_langcore.data.mini.languages.ar import GRAMMAR as AR
from hf_langcore.data.mini.languages.de import GRAMMAR as DE
from hf_langcore.data.mini.languages.en import GRAMMAR as EN
from hf_langcore.data.mini.languages.es import GRAMMAR as ES
from hf_langcore.data.mini.languages.fr import GRAMMAR as FR
from hf_langcore.data.mini.languages.ko import GRAMMAR as KO
from hf_langcore.data.mini.languages.ru import GRAMMAR as RU
from hf_langcore.data.mini.languages.tr import GRAMMAR as TR
from hf_langcore.data.mini.languages.vi import GRAMMAR as VI
from hf_langcore.data.mini.languages.zh import GRAMMAR as ZH

GRAMMARS: dict[str, Grammar] = {grammar.code: grammar for grammar in (AR, DE, EN, ES, FR, KO, RU, TR, VI, ZH)}
