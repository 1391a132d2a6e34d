import pytest

from kfeat.models import processor

ZEN3 = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu avx avx2 fma"
ZEN4 = f"{ZEN3} avx512f avx512_bf16"
ZEN5 = ZEN4.replace("25", "26")
SAPPHIRE_RAPIDS = "vendor_id\t: GenuineIntel\ncpu family\t: 6\nflags\t\t: avx2 avx512f amx_bf16"


@pytest.mark.parametrize(
    ("text", "narrow"),
    [
        (ZEN3, True),
        (ZEN4, True),
        (ZEN5, False),
        (SAPPHIRE_RAPIDS, False),
        ("Features: fp", False),
    ],
)
def test_width_of_a_processor_is_read(tmp_path, monkeypatch, text, narrow) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor\t: 0\n{text}\n\nprocessor\t: 1\nflags\t\t: avx512f\n")
    monkeypatch.setattr(processor, "CPUINFO", file)
    processor.fields.cache_clear()
    try:
        assert processor.is_narrow() is narrow
        assert ("amx_bf16" in processor.flags()) is (text is SAPPHIRE_RAPIDS)
    finally:
        processor.fields.cache_clear()
