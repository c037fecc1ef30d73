"""The page in headless Chromium, opened from disk: it runs, follows the pointer, finds frames."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.report.made_up import make_report, thumbnails_of
from vidinv.report.page import render

# Without the background flags Chromium looks up hosts of its maker at each start.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--window-size=1280,2000",
]
ACT = """<script>
window.onerror = function (message) { document.title = 'ERROR ' + message; };
var plot = document.querySelector('[data-plot]'), box = plot.getBoundingClientRect();
var note = [];
function read(label) {
  var panel = document.getElementById('panel');
  note.push(label + ':' + panel.dataset.frame + ':' + panel.querySelectorAll('img').length);
}
function at(kind, share) {
  plot.dispatchEvent(new MouseEvent(kind, {clientX: box.left + box.width * share, bubbles: true}));
}
read('start');
at('pointermove', 0.51); read('move');
at('click', 0.76); read('click');
document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'})); read('key');
document.querySelectorAll('.pair')[3].click(); read('pair');
var wide = document.documentElement.scrollWidth > window.innerWidth ? 'wide' : 'fits';
document.body.dataset.note = note.join(' ') + ' ' + wide;
</script>"""


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian package chromium)")
    return path


def dump(chromium: str, page, folder, *more: str) -> str:
    command = [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", *more, "--dump-dom"]
    ran = subprocess.run(
        [*command, page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return ran.stdout


def test_charts_panel_and_pictures_work_together(chromium, tmp_path):
    report = make_report()
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", ACT + "</body>"))
    worst = [item.frame for item in report.standing_out]
    note = re.search(r'data-note="([^"]*)"', dump(chromium, page, tmp_path))[1]
    first = min(worst)
    assert note.split() == [
        f"start:{first}:2",
        "move:20:2",
        "click:30:2",
        "key:31:2",
        f"pair:{worst[3]}:2",
        "fits",
    ]


def test_nothing_sticks_out_on_a_phone(chromium, tmp_path):
    report = make_report()
    page = tmp_path / "report.html"
    html = render(report, thumbnails=thumbnails_of(report))
    page.write_text(html.replace("</body>", ACT + "</body>"))
    dom = dump(chromium, page, tmp_path, "--window-size=500,900")
    assert re.search(r'data-note="[^"]* fits"', dom)
    assert "<title>ERROR" not in dom


@pytest.mark.parametrize(("scheme", "dark"), [("0", True), ("1", False)])
def test_the_page_is_readable_in_light_and_dark(chromium, tmp_path, scheme, dark):
    page = tmp_path / "report.html"
    read = """<script>
    var style = getComputedStyle(document.body);
    document.body.dataset.note = style.backgroundColor + '/' + style.color;
    </script>"""
    page.write_text(render(make_report()).replace("</body>", read + "</body>"))
    found = dump(chromium, page, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
    ground, ink = re.search(r'data-note="([^"]*)"', found)[1].split("/")
    ground_level, ink_level = (
        sum(map(int, re.findall(r"\d+", text)[:3])) for text in (ground, ink)
    )
    assert (ground_level < 120) == dark
    assert abs(ground_level - ink_level) > 500
