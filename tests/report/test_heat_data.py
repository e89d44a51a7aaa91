"""Heat maps as bytes: what the page's script decodes is what was measured."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from hf_langcore.report.heat_data import pack, share_of
from hf_langcore.report.parts import HeatMap, HeatMaps


def _bytes(text: str) -> np.ndarray:  # type: ignore[type-arg]
    return np.frombuffer(base64.b64decode(text), np.uint8)


def test_shares_profiles_and_bits() -> None:
    """Within half a step of the root scale; the window exactly."""
    density = ((0.0, 0.5, 0.02), (1 / 3, 0.1, 0.8))
    bits = ((1, 0, 1, 1, 0), (0, 0, 1, 0, 1))
    one = HeatMap("model.a.weight", (20, 30), density, (0.1, 0.4), (0.3, 0.0, 0.6), (4, 7, bits))
    values = json.loads(pack(HeatMaps("h", "H", (one, HeatMap("model.b.weight", (2, 2), ((0.2,),), (0.2,), (0.2,))))))
    assert values["top"] == 0.8
    first, second = values["maps"]
    assert (first["name"], first["full"], first["shape"], first["cells"]) == ("a", "model.a.weight", [20, 30], [2, 3])
    shares = values["top"] * (_bytes(first["density"]) / 255.0) ** 2
    assert shares == pytest.approx(np.ravel(density), abs=0.004)
    assert first["rows"]["most"] == 0.4
    assert list(_bytes(first["columns"]["values"])) == [128, 0, 255]
    unpacked = np.unpackbits(_bytes(first["detail"]["bits"]))[:10].reshape(2, 5)
    assert (unpacked == np.array(bits)).all()
    assert (first["detail"]["row"], first["detail"]["column"], first["detail"]["size"]) == (4, 7, [2, 5])
    assert "detail" not in second
    assert first["share"] == share_of(one) == pytest.approx(np.mean(density))


def test_nothing_ends_the_script() -> None:
    text = pack(HeatMaps("h", "H", (HeatMap("</script><!--&", (1, 1), ((0.0,),), (0.0,), (0.0,)),)))
    assert not set("<>&") & set(text)
    assert json.loads(text)["maps"][0]["full"] == "</script><!--&"


def test_empty_and_broken_shares() -> None:
    maps = (
        HeatMap("a", (0, 0), (), (), ()),
        HeatMap("b", (1, 1), ((float("nan"), 2.0), (-1.0,)), (), (float("inf"),)),
    )
    first, second = json.loads(pack(HeatMaps("h", "H", maps)))["maps"]
    assert first["share"] is None
    assert second["cells"] == [2, 2]
    assert second["share"] == 0.25
