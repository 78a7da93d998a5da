"""What was found on single images survives the run that found it, and no other's is taken for it."""

from store.staged import StagedFindings
from store.warehouse import Warehouse


def test_findings_are_read_back_by_what_they_were_made_from(warehouse: Warehouse) -> None:
    mine = StagedFindings(warehouse, "saliency", "a", "enc", "f1")
    assert mine.read() == {}
    mine.stage({"i1": {"rows": [1.5, None, "x"]}})
    mine.stage({"i2": []})
    others = [
        StagedFindings(warehouse, "saliency", "a", "enc", "f2"),
        StagedFindings(warehouse, "saliency", "a", "other", "f1"),
        StagedFindings(warehouse, "saliency", "b", "enc", "f1"),
        StagedFindings(warehouse, "another", "a", "enc", "f1"),
    ]
    for other in others:
        assert other.read() == {}
        other.stage({"i1": "theirs"})
    assert mine.read() == {"i1": {"rows": [1.5, None, "x"]}, "i2": []}
    mine.clear()
    # All of the partition, whatever it was made from, and no other partition.
    assert [each.read() for each in (mine, *others)] == [{}, {}] + [{"i1": "theirs"}] * 3
