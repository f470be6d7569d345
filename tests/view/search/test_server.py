import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import av
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from clep.errors import InputError
from clep.view.search import SearchEngine, VideoFiles, create_app, videos
from clep.view.search.server import listen, needs_token
from tests.video.made_videos import number_of
from tests.view.search.small_world import ODD, RATE, engine_of


@pytest.fixture(scope="module")
def client(engine: SearchEngine) -> TestClient:
    return TestClient(create_app(engine), base_url="http://127.0.0.1:8765", follow_redirects=False)


def address(path: str, **parameters: Any) -> str:
    return f"{path}?{urlencode(parameters, doseq=True)}"


def test_a_sentence_finds_its_moment(client: TestClient) -> None:
    answer = client.get(address("/api/search", q=["opens the fridge"], top=3))
    assert answer.status_code == 200
    assert answer.json()["hits"][0]["video"] == "kitchen"
    assert len(answer.json()["hits"]) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/api/search", "1 to 12 sentences"),
        ("/api/search?q=", "is empty"),
        ("/api/search?q=a&top=1e6", "from 1 to 100"),
        ("/api/search?q=a&top=no", "top='no' is not a number"),
        ("/api/search?like=kitchen", "is not a number"),
        ("/api/search?like=nowhere@1-2", "no video 'nowhere'"),
        ("/api/search?like=kitchen@5-2", "does not end after its start"),
        ("/api/search?like=kitchen@nan-inf", "is not a number"),
        ("/api/curve?q=a", "no video ''"),
        ("/api/moment", "is missing"),
        ("/api/search?" + "q=a&" * 300, "cannot be read"),
    ],
)
def test_what_cannot_be_answered_has_a_reason(client: TestClient, path: str, message: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_odd_ids_are_found_and_stay_text(client: TestClient) -> None:
    assert client.get(address("/api/moment", at=f"{ODD}@4.0-6.0")).json()["direct"]
    assert client.get(address("/strip", at=f"{ODD}@4.0-6.0")).status_code == 200
    assert client.get(f"/video?id={quote(ODD)}").status_code == 200
    answer = client.get(address("/api/search", q="closes the fridge"))
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.text)["hits"][0]["video"] == ODD


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "localhost.evil.example:80"]
)
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    """A page of another site whose name resolves to this machine must get nothing (DNS rebinding)."""
    for path in ("/", "/api/about", "/video?id=kitchen"):
        assert client.get(path, headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:9", "127.0.0.1", "[::1]:8765", "LOCALHOST:1"])
def test_names_of_this_machine_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/about", headers={"host": host}).status_code == 200


def test_other_sites_cannot_embed_it(client: TestClient) -> None:
    cross = {"sec-fetch-site": "cross-site"}
    assert client.get("/video?id=kitchen", headers=cross | {"sec-fetch-mode": "no-cors"}).status_code == 403
    assert client.get("/api/about", headers=cross | {"sec-fetch-mode": "cors"}).status_code == 403
    assert client.get("/", headers=cross | {"sec-fetch-mode": "navigate"}).status_code == 200  # a link to it
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert client.post("/api/search?q=a").status_code == 405


@pytest.mark.parametrize("name", ["../server.py", "..%2fserver.py", "%2e%2e/server.py", "index.html", "/etc/passwd"])
def test_static_files_are_a_list(client: TestClient, name: str) -> None:
    assert client.get(f"/static/{name}").status_code == 404


def test_every_file_of_the_page_is_there(client: TestClient) -> None:
    page = client.get("/").text
    for name in ("search.css", "search.js", "icon.svg"):
        assert f"/static/{name}" in page
        assert client.get(f"/static/{name}").status_code == 200
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.parametrize("uid", ["../bank.h5", "/etc/passwd", "kitchen.mp4", "", "..", "deeper/../kitchen", "\x00"])
def test_ids_that_are_no_video_open_no_file(client: TestClient, uid: str) -> None:
    for path in ("/video", "/clip"):
        assert client.get(address(path, id=uid, **{"from": 0})).status_code == 404
    assert client.get(address("/strip", at=f"{uid}@0-2")).status_code == 404


def test_ranges_of_a_video(client: TestClient, world: Path) -> None:
    content = (world / "videos" / "kitchen.mp4").read_bytes()
    whole = client.get("/video?id=kitchen")
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.content == content
    part = client.get("/video?id=kitchen", headers={"range": "bytes=100-199"})
    assert part.status_code == 206
    assert part.content == content[100:200]
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert client.get("/video?id=kitchen", headers={"range": "bytes=-50"}).content == content[-50:]
    assert client.get("/video?id=kitchen", headers={"range": f"bytes={len(content)}-"}).status_code == 416


def test_a_strip_shows_the_frames_of_the_moment(client: TestClient) -> None:
    answer = client.get(address("/strip", at="kitchen@6.0-8.0"))
    picture = Image.open(BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/jpeg"
    assert picture.size == (4 * 144, 108)
    assert client.get(address("/strip", at="kitchen@50.0-52.0")).status_code == 404
    assert "kitchen.mp4" in client.get(address("/strip", at="kitchen@50.0-52.0")).text
    assert client.get(address("/strip", at="gone@0-2")).status_code == 404


def test_what_browsers_do_not_play_is_copied_small(client: TestClient) -> None:
    facts = client.get(address("/api/moment", at="old@8-10")).json()
    assert (facts["direct"], facts["missing"]) == (False, "")
    assert ".avi" in facts["reason"]
    answer = client.get("/clip?id=old&from=8")
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(BytesIO(answer.content)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = list(file.decode(stream))
    # 15 frames a second from second 8 to the end at 12, each showing the source's frame of its second
    assert len(frames) == 60
    for index in (0, 20, 58):
        pixels = torch.from_numpy(frames[index].to_ndarray(format="rgb24")).permute(2, 0, 1)
        assert number_of(pixels) == int((8 + index / 15) * RATE + 1e-6)
    assert client.get("/clip?id=old&from=8", headers={"range": "bytes=0-9"}).status_code == 206
    assert client.get("/clip?id=old&from=99").status_code == 404
    assert client.get("/clip?id=gone&from=0").status_code == 404


def test_with_a_token_nothing_is_answered_without_it(engine: SearchEngine) -> None:
    client = TestClient(create_app(engine, "secret"), base_url="http://machine:8765", follow_redirects=False)
    for path in ("/", "/api/about", "/static/search.js", "/video?id=kitchen", "/?token=wrong", "/?token=%C3%BC"):
        assert client.get(path).status_code == 403
    first = client.get("/?q=a+cup&token=secret")
    assert first.status_code == 303
    assert first.headers["location"] == "/?q=a+cup"  # out of the address, which people copy
    assert {"httponly", "samesite=strict"} <= set(first.headers["set-cookie"].lower().replace(" ", "").split(";"))
    assert client.get("/api/about").status_code == 200


def test_which_hosts_need_a_token() -> None:
    assert [needs_token(host) for host in ("127.0.0.1", "::1", "localhost")] == [False] * 3
    assert [needs_token(host) for host in ("0.0.0.0", "::", "192.168.1.5", "machine")] == [True] * 4


def test_moved_files_and_links_out_of_the_folder(world: Path, tmp_path: Path) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "elsewhere"
    folder.mkdir()
    outside.mkdir()
    shutil.copy(world / "videos" / "kitchen.mp4", outside / "kitchen.mp4")
    (folder / "kitchen.mp4").symlink_to(outside / "kitchen.mp4")
    (folder / "folder").symlink_to(outside)
    shutil.copy(world / "videos" / "old.avi", folder / "old.avi")
    engine = engine_of(world, [folder])
    client = TestClient(create_app(engine), base_url="http://127.0.0.1")
    assert "link out of the named folders" in client.get("/video?id=kitchen").text
    hits = {hit["video"]: hit for hit in client.get("/api/search?q=a+cup&top=50").json()["hits"]}
    assert "link out of the named folders" in hits["kitchen"]["missing"]
    assert VideoFiles([folder, outside]).path("kitchen").resolve() == outside / "kitchen.mp4"
    (folder / "old.avi").unlink()
    assert "not there any more" in client.get("/clip?id=old&from=0").text
    assert "not there any more" in client.get(address("/api/moment", at="old@1-2")).json()["missing"]
    (folder / "old.avi").symlink_to(outside / "kitchen.mp4")  # replaced by a link after the folder was listed
    assert client.get("/video?id=old").status_code == 404
    with pytest.raises(InputError, match=r"videos=.*nowhere is not a folder"):
        VideoFiles([tmp_path / "nowhere"])


def test_a_file_that_is_no_video_is_shown_with_the_reason(world: Path, tmp_path: Path) -> None:
    (tmp_path / "kitchen.mp4").write_bytes(b"no video")
    client = TestClient(create_app(engine_of(world, [tmp_path])), base_url="http://127.0.0.1")
    assert "cannot be read as a video" in client.get(address("/api/moment", at="kitchen@1-2")).json()["missing"]
    assert client.get(address("/strip", at="kitchen@1-2")).status_code == 404
    assert client.get("/clip?id=kitchen&from=0").status_code == 404


def test_a_hundred_pages_at_once(engine: SearchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each strip is decoded once, two at a time, and every page gets its answers."""
    decoding, most, calls = [0], [0], []
    real = videos.frames_at

    def counted(path: Path, seconds: list[float], height: int) -> list:
        decoding[0] += 1
        most[0] = max(most[0], decoding[0])
        calls.append(tuple(seconds))
        try:
            return real(path, seconds, height)
        finally:
            decoding[0] -= 1

    monkeypatch.setattr(videos, "frames_at", counted)
    client = TestClient(create_app(engine), base_url="http://127.0.0.1")
    paths = [address("/strip", at=f"kitchen@{start}.25-{start + 1}") for start in range(4)]
    paths += [address("/api/search", q="a cup"), address("/api/curve", q="a cup", of="kitchen")]
    with ThreadPoolExecutor(16) as pages:
        answers = list(pages.map(lambda number: client.get(paths[number % len(paths)]).status_code, range(100)))
    assert answers == [200] * 100
    assert most[0] <= videos.DECODERS
    assert len(calls) == len(set(calls)) == 4


def test_small_copies_are_dropped_and_removed(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "CLIP_S", 1.0)
    monkeypatch.setattr(videos, "CLIPS_KEPT", 2)
    files = VideoFiles([world / "videos"])
    made = [files.clip("old", second) for second in (0.0, 1.0, 2.0)]
    assert [path.exists() for path in made] == [False, True, True]
    files.close()
    assert not any(path.exists() for path in made)


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with listen("127.0.0.1", port) as found:
            assert port < found.getsockname()[1] < port + 20
        with pytest.raises(InputError, match=f"port={port} is in use.*port=NUMBER"):
            listen("127.0.0.1", port, next_free=False)
    with pytest.raises(InputError, match=r"host=203\.0\.113\.1"):
        listen("203.0.113.1", 0)


def test_no_file_is_left_open(engine: SearchEngine, client: TestClient) -> None:
    client.get(address("/strip", at="kitchen@3-4"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for second in range(5):
        client.get(address("/strip", at=f"kitchen@{second}.5-{second + 1}"))
        client.get("/video?id=kitchen")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2
