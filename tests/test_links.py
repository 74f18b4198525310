"""Every link of a page to a file or a heading leads somewhere, and the site has every page."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted(
    path for pattern in ("*.md", "docs/*.md", "scaling/**/README.md") for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def prose(page):
    return CODE.sub("", page.read_text())


def anchors(page):
    """As GitHub makes them of headings: lower case, words joined by hyphens, nothing else."""
    heads = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", head).lower() for head in heads]
    return {re.sub(r"[^\w\- ]", "", head).strip().replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(prose(page)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_site_has_every_page():
    index = (ROOT / "docs" / "site" / "index.md").read_text()
    listed = set(re.findall(r"^(\.\./\S+)$", index, re.MULTILINE))
    folder = ROOT / "docs" / "site"
    found = {(folder / f"{name}.md").resolve() for name in listed}
    assert found == set(PAGES)
