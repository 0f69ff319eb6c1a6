"""Reports of what older versions have left."""

from pathlib import Path

import pytest

from longtake.report.job_report import gather_report
from longtake.report.page import write_page
from longtake.stores.directory import DirectoryStore
from longtake.stores.job_records import JobRecords, list_jobs

STORES = Path(__file__).parents[1] / "old_stores"


def list_old_jobs() -> list[JobRecords]:
    folders = sorted(folder.parent for folder in STORES.rglob(".longtake"))
    return [records for folder in folders for records in list_jobs(DirectoryStore(folder))]


@pytest.mark.parametrize("records", list_old_jobs(), ids=lambda records: records.job_id)
def test_a_job_of_an_older_version_has_a_report(records: JobRecords) -> None:
    gathered = gather_report(records, None)

    assert gathered.report.counts["done"] >= 1
    assert gathered.report.hosts[0].render_seconds > 0
    assert gathered.report.hosts[0].host
    assert gathered.report.outputs.list_sha256
    assert "not known to Temporal" in write_page(gathered)
